package jscan

import (
	"fmt"
	"strings"
	"testing"
)

var benchTexts = []struct{ name, text string }{
	{"plain/10B", strings.Repeat("abcdefghi ", 1)},
	{"plain/100B", strings.Repeat("abcdefghi ", 10)},
	{"plain/10KiB", strings.Repeat("abcdefgh", 1280)},
	{"quotes/10KiB", strings.Repeat(`{"a":"b"},`, 1024)},
	{"text/10KiB", strings.Repeat(`{"name":"a sentence of some words, as many have, and a longer one"},`, 150)},
	{"quotes/100B", strings.Repeat(`{"a":"b"},`, 10)},
	{"umlauts/100B", strings.Repeat("grüße, da ", 10)},
	{"words/10KiB", strings.Repeat(strings.Repeat("abcdefghi ", 10)+"é", 100)},
	{"kanji/100B", strings.Repeat("世界世界", 9)[:99]},
}

func BenchmarkAppendString(b *testing.B) {
	for _, c := range benchTexts {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.text)))
			var dst []byte
			for b.Loop() {
				dst = AppendString(dst[:0], c.text)
			}
		})
	}
}

func BenchmarkStringSize(b *testing.B) {
	for _, c := range benchTexts {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				StringSize(c.text)
			}
		})
	}
}

func BenchmarkScannerString(b *testing.B) {
	for _, c := range benchTexts {
		b.Run(c.name, func(b *testing.B) {
			quoted := AppendString(nil, c.text)
			b.ReportAllocs()
			b.SetBytes(int64(len(quoted)))
			var s Scanner
			for b.Loop() {
				s.Reset(quoted)
				_ = s.String()
			}
		})
	}
}

func BenchmarkScannerSkip(b *testing.B) {
	for _, c := range benchTexts {
		b.Run(c.name, func(b *testing.B) {
			quoted := AppendString(nil, c.text)
			b.ReportAllocs()
			b.SetBytes(int64(len(quoted)))
			var s Scanner
			for b.Loop() {
				s.Reset(quoted)
				s.Skip()
			}
		})
	}
}

// BenchmarkScannerSendBody reads the body of a send as the server does.
func BenchmarkScannerSendBody(b *testing.B) {
	body := []byte(`{"messages":[`)
	for i := range 1000 {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"key":"orders.cus_%d.%d","data":"%s"}`, i%10, i, strings.Repeat("x", 100))
	}
	body = append(body, `]}`...)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	var s Scanner
	for b.Loop() {
		s.Reset(body)
		total := 0
		s.Object()
		for {
			if _, ok := s.Key(); !ok {
				break
			}
			for s.Array(); s.Elem(); {
				s.Object()
				for {
					if _, ok := s.Key(); !ok {
						break
					}
					total += len(s.String())
				}
			}
		}
		if err := s.Done(); err != nil || total < 100_000 {
			b.Fatal(err, total)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/message")
}
