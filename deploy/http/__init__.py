"""The words of HTTP that all rooms of serving use: requests and answers, refusals, media types, patience, deadlines."""
