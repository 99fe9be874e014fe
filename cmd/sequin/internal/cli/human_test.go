package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

func TestSizesAndTimesArePrintedForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9951: "10 kB", 999_600: "1.0 MB", 12_345_678: "12 MB", 5e15: "5.0 PB"} {
		require.Equal(t, want, Bytes(n))
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		0: "now", -30 * time.Second: "now", -2 * time.Minute: "in 2m", 5 * time.Second: "5s ago", 90 * time.Second: "1m ago",
		3 * time.Hour: "3h ago", 47 * time.Hour: "47h ago", 72 * time.Hour: "3d ago",
	} {
		require.Equal(t, want, Age(now, now.Add(-ago)))
	}
	require.Equal(t, "-", Age(now, time.Time{}))
	require.Equal(t, "29s", Left(now, now.Add(29*time.Second)))
	require.Equal(t, "-", Left(now, now))
	require.Equal(t, "-", Left(now, time.Time{}))
	require.Equal(t, "1 byte and 2 bytes", Plural(1, "byte")+" and "+Plural(2, "byte"))
}

func TestDataCannotControlTheTerminal(t *testing.T) {
	require.Equal(t, `a\x1b[31mb\nü`, Cut("a\x1b[31mb\nü", 100))
	require.Equal(t, "abc", Cut("abc", 3))
	require.Equal(t, "ab…", Cut("abcd", 3))
	require.Equal(t, "ab…", Cut("ab\n", 3))
}

func TestTablesHaveNoSpacesAtTheEndsOfLines(t *testing.T) {
	var out strings.Builder
	require.NoError(t, Table(&out, []string{"A", "B"}, [][]string{{"long", ""}, {"x", "y"}}, "none"))
	require.Equal(t, "A     B\nlong\nx     y\n", out.String())
	out.Reset()
	require.NoError(t, Table(&out, []string{"A"}, nil, "none"))
	require.Equal(t, "none\n", out.String())
}

func TestErrorsOfTheLibraryHaveExitCodes(t *testing.T) {
	for _, err := range refusedArguments {
		require.Equal(t, ExitUsage, ExitCode(OfClient(fmt.Errorf("x: %w", err))))
	}
	require.Equal(t, ExitUnreachable, ExitCode(OfClient(sequin.ErrUnreachable)))
	require.Equal(t, ExitNotFound, ExitCode(OfClient(&sequin.APIError{Status: 404})))
	require.Equal(t, ExitFailed, ExitCode(OfClient(&sequin.APIError{Status: 404, Foreign: true})), "a proxy does not know streams")
	require.Equal(t, ExitFailed, ExitCode(OfClient(errors.New("x"))))
	require.Equal(t, ExitUsage, ExitCode(OfClient(Usage("%w", sequin.ErrNotFound))))
	require.NoError(t, OfClient(nil))
	require.Equal(t, "sequin: not found", Line(sequin.ErrNotFound))
}
