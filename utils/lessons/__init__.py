"""What one chapter alone uses: its figures, controls and exercises, a file a chapter. Nothing else imports these."""
