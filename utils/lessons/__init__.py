"""What one chapter alone uses: its figures and its control, a file a chapter. Nothing else imports these."""
