"""The networks of LWL-lite, which know nothing of videos."""
