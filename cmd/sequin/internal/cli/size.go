package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a flag for a number of bytes, written as 8000000, 8MB, 7.5MiB or 1GiB.
type Size int64

// The units of a Size. The longer ones come first, because "MB" ends in "B".
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// Set parses a size. It must be a whole number of bytes, and at least 1.
func (s *Size) Set(text string) error {
	digits, unit := text, 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if bytes := n * unit; err == nil && bytes >= 1 && bytes < math.MaxInt64 {
		*s = Size(bytes)
		return nil
	}
	return fmt.Errorf("want a number of bytes such as 8000000, 8MB or 1GiB")
}

// String returns the size with the largest unit that needs no fraction.
func (s *Size) String() string {
	best := strconv.FormatInt(int64(*s), 10)
	for _, u := range sizeUnits {
		if n := int64(u.bytes); n > 1 && *s >= Size(n) && int64(*s)%n == 0 {
			if text := strconv.FormatInt(int64(*s)/n, 10) + u.name; len(text) < len(best) {
				best = text
			}
		}
	}
	return best
}

// Type is the word for the value in the help text.
func (s *Size) Type() string { return "size" }
