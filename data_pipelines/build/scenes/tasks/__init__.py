"""Questions about scenes, one task a file, in two languages: view -> the tasks -> every."""
