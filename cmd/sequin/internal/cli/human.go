package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Plural returns a number with its noun.
func Plural[T int | int64 | uint64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Bytes returns a size as people read it: 999 B, 1.5 kB, 12 MB.
func Bytes(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	size := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		size /= 1000
		switch {
		case size < 9.95:
			return strconv.FormatFloat(size, 'f', 1, 64) + " " + unit
		case size < 999.5:
			return strconv.FormatFloat(math.Round(size), 'f', 0, 64) + " " + unit
		}
	}
	return strconv.FormatFloat(size/1000, 'f', 1, 64) + " PB"
}

// Age returns how long ago t was, in its largest unit. A time within the next minute counts as now: clocks differ.
func Age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	switch {
	case d < -time.Minute:
		return "in " + duration(-d)
	case d < time.Second:
		return "now"
	}
	return duration(d) + " ago"
}

// Left returns how long it is until t.
func Left(now, t time.Time) string {
	d := t.Sub(now)
	if t.IsZero() || d <= 0 {
		return "-"
	}
	return duration(d)
}

func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(math.Round(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Cut returns the text as at most n characters of one line. What is not printable is escaped, so that data cannot control
// the terminal.
func Cut(text string, n int) string {
	out := make([]rune, 0, min(len(text), n))
	for _, r := range text {
		if len(out) == n {
			out[n-1] = '…'
			break
		}
		if strconv.IsPrint(r) {
			out = append(out, r)
			continue
		}
		escaped := []rune(strconv.QuoteRune(r))
		out = append(out, escaped[1:len(escaped)-1]...)
		if len(out) > n {
			out = append(out[:n-1], '…')
			break
		}
	}
	return string(out)
}
