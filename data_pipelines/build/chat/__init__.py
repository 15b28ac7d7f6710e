"""Users' fine-tuning files to chat records: dialogue -> job -> command."""
