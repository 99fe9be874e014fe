package jscan

import (
	"bytes"
	"math/bits"
	"unicode/utf8"
)

// The functions of this file examine eight bytes in one word. Each mask has the high bit set of every byte that is searched
// for. A subtraction may borrow into the bytes above a hit, but not below it, so only the lowest set bit is exact. The other
// bits are not used, except those of escaped.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text is the source of a JSON string. The functions are generic because a conversion would copy.
type text interface{ ~string | ~[]byte }

// load reads eight bytes at i in little-endian order. The compiler turns it into one load.
func load[T text](s T, i int) uint64 {
	b := s[i : i+8]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// notPlain marks control bytes, '"', '\' and bytes of 0x80 and above.
func notPlain(w uint64) uint64 {
	return ((w - ones*0x20) | ((w ^ ones*'"') - ones) | ((w ^ ones*'\\') - ones) | w) & highs
}

// notInert marks control bytes, '"' and '\', which are the bytes that matter when a string is skipped.
func notInert(w uint64) uint64 {
	return ((w - ones*0x20) | ((w ^ ones*'"') - ones) | ((w ^ ones*'\\') - ones)) &^ w & highs
}

// rare is not zero if a byte of w is a control byte or not ASCII.
func rare(w uint64) uint64 { return ((w - ones*0x20) | w) & highs }

// escaped marks every '"' and '\' of w. rare(w) must be zero, so that no byte carries into the next one.
func escaped(w uint64) uint64 {
	return (^((w ^ ones*'"') + ^uint64(highs)) | ^((w ^ ones*'\\') + ^uint64(highs))) & highs
}

// firstByte returns the index of the lowest marked byte of a mask, which must not be zero.
func firstByte(mask uint64) int { return bits.TrailingZeros64(mask) >> 3 }

// plainEnd returns the first index from i on whose byte is not plain ASCII, or len(s).
func plainEnd(s []byte, i int) int {
	// Four words at a time take half the time if there is nothing to find.
	for start := i; i+32 <= len(s); i += 32 {
		if i-start == near {
			return plainEndAfar(s, i)
		}
		a, b, c, d := notPlain(load(s, i)), notPlain(load(s, i+8)), notPlain(load(s, i+16)), notPlain(load(s, i+24))
		switch {
		case a|b|c|d == 0:
		case a != 0:
			return i + firstByte(a)
		case b != 0:
			return i + 8 + firstByte(b)
		case c != 0:
			return i + 16 + firstByte(c)
		default:
			return i + 24 + firstByte(d)
		}
	}
	for ; i+8 <= len(s); i += 8 {
		if mask := notPlain(load(s, i)); mask != 0 {
			return i + firstByte(mask)
		}
	}
	for i < len(s) && plain[s[i]] {
		i++
	}
	return i
}

// A string of more than near plain bytes is likely to have many more. Package bytes searches them for a quote and a backslash with
// vector instructions, and less is left to do. The first search is short, because it is in vain where other bytes end the plain ones;
// each further one is twice as long, up to ahead.
const near, ahead = 96, 1024

// plainEndAfar is plainEnd for a long string. It takes two thirds of the time for each byte.
func plainEndAfar(s []byte, i int) int {
	for size := 128; ; size = min(2*size, ahead) {
		part := s[i:min(i+size, len(s))]
		if quote := bytes.IndexByte(part, '"'); quote >= 0 {
			part = part[:quote]
		}
		if backslash := bytes.IndexByte(part, '\\'); backslash >= 0 {
			part = part[:backslash]
		}
		n := rareEnd(part)
		if i += n; n < size {
			return i
		}
	}
}

// rareEnd returns the index of the first control byte or byte that is not ASCII, or len(s).
func rareEnd(s []byte) (i int) {
	for i+32 <= len(s) && rare(load(s, i))|rare(load(s, i+8))|rare(load(s, i+16))|rare(load(s, i+24)) == 0 {
		i += 32
	}
	for ; i+8 <= len(s); i += 8 {
		if mask := rare(load(s, i)); mask != 0 {
			return i + firstByte(mask)
		}
	}
	for i < len(s) && s[i] >= 0x20 && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// plainBlocks returns the end of as many blocks of 32 bytes from i on as have plain bytes only.
func plainBlocks[T text](s T, i int) int {
	for i+32 <= len(s) && notPlain(load(s, i))|notPlain(load(s, i+8))|notPlain(load(s, i+16))|notPlain(load(s, i+24)) == 0 {
		i += 32
	}
	return i
}

// inertEnd returns the first index from i on whose byte is a control byte, '"' or '\', or len(s).
func inertEnd(s []byte, i int) int {
	for i+32 <= len(s) && notInert(load(s, i))|notInert(load(s, i+8))|notInert(load(s, i+16))|notInert(load(s, i+24)) == 0 {
		i += 32
	}
	for ; i+8 <= len(s); i += 8 {
		if mask := notInert(load(s, i)); mask != 0 {
			return i + firstByte(mask)
		}
	}
	for i < len(s) && (plain[s[i]] || s[i] >= 0x80) {
		i++
	}
	return i
}

// plain reports the bytes that are ASCII and are not escaped in a JSON string.
var plain = func() (table [256]bool) {
	for b := 0x20; b < 0x80; b++ {
		table[b] = b != '"' && b != '\\'
	}
	return table
}()

// IndexEscape returns the first index from i on at which \u stands, or -1. A backslash before it may make it no escape of a
// character. bytes.Index stops at each backslash, and takes ten times as long where JSON with its quotes is in a string.
func IndexEscape(s []byte, i int) int {
	next := bytes.IndexByte(s[i:], '\\') // quick where there is none
	if next < 0 {
		return -1
	}
	for i += next; i+9 <= len(s); i += 8 {
		differs := (load(s, i) ^ ones*'\\') | (load(s, i+1) ^ ones*'u')
		if mask := (differs - ones) &^ differs & highs; mask != 0 {
			return i + firstByte(mask)
		}
	}
	if last := bytes.Index(s[i:], []byte(`\u`)); last >= 0 {
		return i + last
	}
	return -1
}
