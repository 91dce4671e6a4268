"""What LWL keeps of a video: where objects are, what it learns of them and how far it trusts it."""
