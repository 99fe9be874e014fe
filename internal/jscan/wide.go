package jscan

import "unicode/utf8"

// wideEnd returns the first index from i on that holds ASCII, or len(s), or, with valid false, that begins no character of
// UTF-8: one byte of it is wrong then, as encoding/json counts too.
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

// wideSize returns how many bytes the character at i takes, 0 when they are not UTF-8. Two bytes, and the three-byte
// characters whose second byte may be any continuation, are nearly all of what is written; they are told here, in a quarter
// of the time.
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
	// Slicing to one character first keeps the conversion on the stack.
	r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	if r == utf8.RuneError { // U+FFFD itself was told above
		return 0
	}
	return size
}

func continues(b byte) bool { return b&0xC0 == 0x80 }
