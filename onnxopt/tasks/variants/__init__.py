"""Files of one model in several types, under the names that programs look for: made, judged, audited."""
