"""What is known of an endpoint at work: metrics, the page on which Prometheus reads them, and drift."""
