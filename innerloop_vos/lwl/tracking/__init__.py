"""What LWL keeps of a video: where objects are, and what it learns of them."""
