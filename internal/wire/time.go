package wire

import (
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
)

// ParseTime reads a time from its JSON. It returns the zero time for anything that is not a readable time.
func ParseTime(json []byte) time.Time {
	var s jscan.Scanner
	s.Reset(json)
	return new(clock).scan(&s)
}

// clock reads the times of messages. It remembers the last time it read, because a message that was never changed has its
// time twice, and the second of that time, because most messages of a batch fall into the same few seconds. Adding the
// microseconds to a known second takes a tenth of what package time takes to parse all of it.
type clock struct {
	last   [len(microLayout)]byte
	at     time.Time
	second time.Time
}

const (
	secondLayout = "2006-01-02T15:04:05"
	microLayout  = secondLayout + ".000000Z" // how servers write the times of a message
)

// scan reads the next value. It returns the zero time for one that it cannot read, so that a bad time does not cost the
// message.
func (c *clock) scan(s *jscan.Scanner) time.Time {
	if s.Kind() != jscan.String {
		s.Skip()
		return time.Time{}
	}
	return c.read(s.String())
}

// read reads the text of a time.
func (c *clock) read(text []byte) time.Time {
	if len(text) != len(microLayout) || text[len(secondLayout)] != '.' || text[len(text)-1] != 'Z' {
		return parseText(text)
	}
	if string(text) == string(c.last[:]) {
		return c.at
	}
	var micros time.Duration
	for _, digit := range text[len(secondLayout)+1 : len(text)-1] {
		if digit -= '0'; digit > 9 {
			return parseText(text)
		}
		micros = 10*micros + time.Duration(digit)
	}
	if string(text[:len(secondLayout)]) != string(c.last[:len(secondLayout)]) || c.last[0] == 0 {
		var ok bool
		if c.second, ok = parseSecond(text); !ok {
			return parseText(text)
		}
	}
	copy(c.last[:], text)
	c.at = c.second.Add(micros * time.Microsecond)
	return c.at
}

// parseSecond reads the time in secondLayout with which a text begins, in a fifth of the time that package time takes.
func parseSecond(text []byte) (t time.Time, ok bool) {
	_ = text[len(secondLayout)-1]
	year := 100*twoDigits(text[0], text[1]) + twoDigits(text[2], text[3])
	month, day := twoDigits(text[5], text[6]), twoDigits(text[8], text[9])
	hour, minute, second := twoDigits(text[11], text[12]), twoDigits(text[14], text[15]), twoDigits(text[17], text[18])
	divided := text[4] == '-' && text[7] == '-' && text[10] == 'T' && text[13] == ':' && text[16] == ':'
	if !divided || year > 9999 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return t, false
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t, day <= 28 || t.Day() == day // the month may be shorter
}

// twoDigits returns the number that two digits write, or one beyond 9,999 if they are none.
func twoDigits(tens, ones byte) int {
	if tens -= '0'; tens > 9 {
		return 1 << 20
	}
	if ones -= '0'; ones > 9 {
		return 1 << 20
	}
	return 10*int(tens) + int(ones)
}

// parseText reads RFC 3339. A time without a zone, as Elixir writes naive times, is UTC.
func parseText(text []byte) (t time.Time) {
	if t.UnmarshalText(text) == nil {
		return t
	}
	t, _ = time.Parse("2006-01-02T15:04:05.999999999", string(text))
	return t
}
