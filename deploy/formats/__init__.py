"""What a body carries, to rows and back: records, columns, CSV, Arrow, tensors in JSON and in binary."""
