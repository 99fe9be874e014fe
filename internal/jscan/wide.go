package jscan

import "unicode/utf8"

// wideEnd returns the first index from i on whose byte is ASCII, or len(s). If it finds a byte before that which begins no
// UTF-8 character, it returns its index, and valid is false. That one byte is invalid, as in encoding/json.
func wideEnd[T text](s T, i int) (end int, valid bool) {
	for i < len(s) && s[i] >= utf8.RuneSelf {
		size := wideSize(s, i)
		if size == 0 {
			return i, false
		}
		i += size
	}
	return i, true
}

// wideSize returns the number of bytes of the character at i, or 0 if it is not UTF-8. It handles most characters itself, in
// a quarter of the time of package utf8: those of two bytes, and those of three whose second byte may be any continuation.
func wideSize[T text](s T, i int) int {
	switch lead, left := s[i], len(s)-i; {
	case 0xC2 <= lead && lead <= 0xDF && left >= 2:
		if continues(s[i+1]) {
			return 2
		}
		return 0
	case (0xE1 <= lead && lead <= 0xEC || lead == 0xEE || lead == 0xEF) && left >= 3:
		if continues(s[i+1]) && continues(s[i+2]) {
			return 3
		}
		return 0
	}
	// The slice has at most four bytes, so that the conversion stays on the stack.
	r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	if r == utf8.RuneError { // U+FFFD itself was handled above
		return 0
	}
	return size
}

// continues reports whether b is a continuation byte.
func continues(b byte) bool { return b&0xC0 == 0x80 }
