"""Where files are kept: a local directory, or a bucket that speaks S3."""
