package jscan

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestIndexEscapeFindsWhatBytesIndexFinds(t *testing.T) {
	parts := []string{`\`, `u`, `\u`, `\"`, `]v`, `tu`, "\xdc\xf5", `plain text`}
	for range 100_000 {
		var s []byte
		for range rand.N(12) {
			s = append(s, parts[rand.N(len(parts))]...)
		}
		from := rand.N(len(s) + 1)
		want := bytes.Index(s[from:], []byte(`\u`))
		if want >= 0 {
			want += from
		}
		if got := IndexEscape(s, from); got != want {
			t.Fatalf("%q from %d: %d, must be %d", s, from, got, want)
		}
	}
}

func TestPlainBytesEndWhereALoopFindsTheirEnd(t *testing.T) {
	others := []byte{'"', '\\', 0, 0x1f, 0x80, 0xff}
	for range 20_000 {
		s := make([]byte, rand.N(4*ahead))
		for i := range s {
			s[i] = "~ a#["[i%5]
		}
		for range rand.N(3) {
			if len(s) > 0 {
				s[rand.N(len(s))] = others[rand.N(len(others))]
			}
		}
		from := rand.N(len(s) + 1)
		want := from
		for want < len(s) && plain[s[want]] {
			want++
		}
		if got := plainEnd(s, from); got != want {
			t.Fatalf("from %d in %q: %d, must be %d", from, s, got, want)
		}
	}
}
