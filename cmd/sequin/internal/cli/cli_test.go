package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestAnErrorHasAnExitCode(t *testing.T) {
	require.Equal(t, 0, ExitCode(nil))
	require.Equal(t, 1, ExitCode(errors.New("x")))
	require.Equal(t, 2, ExitCode(Usage("x")))
	require.Equal(t, 3, ExitCode(fmt.Errorf("wrapped: %w", NotFound("x"))))
	require.Equal(t, 2, ExitCode(errors.Join(errors.New("x"), Usage("y"))))
	require.Equal(t, "sequin: x; y", Line(errors.Join(errors.New("x"), errors.New("y"))))
}

func TestASizeIsANumberOfBytesWithAUnit(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "8000000": 8_000_000, "8MB": 8_000_000, "8 MB": 8_000_000, "1.5KiB": 1536, "1GiB": 1 << 30, "2TB": 2e12, "7B": 7, "1kB": 1000,
	} {
		var s Size
		require.NoError(t, s.Set(text), text)
		require.EqualValues(t, want, s, text)
	}
	for _, text := range []string{"", "x", "-1", "0", "0.1", "1XB", "MB", "1e30", "NaN", "Inf", "-Inf", "9223372036854775808"} {
		var s Size
		require.Error(t, s.Set(text), text)
	}
	for bytes, want := range map[Size]string{8_000_000: "8MB", 256 << 20: "256MiB", 1 << 30: "1GiB", 1001: "1001", 0: "0", 1000: "1kB"} {
		require.Equal(t, want, bytes.String())
	}
}

// flags returns a set with the flags a and b.
func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	set.String("a", "default", "")
	set.String("b", "default", "")
	require.NoError(t, set.Parse(args))
	return set
}

func TestTheCommandLineWinsOverTheEnvironment(t *testing.T) {
	set := flags(t, "--a=line")
	sources, err := ReadEnvironment(set, clitest.Environment("SEQUIN_A", "env", "SEQUIN_B", "env"))
	require.NoError(t, err)
	require.Equal(t, Sources{"a": CommandLine, "b": Environment}, sources)
	require.Equal(t, "line", set.Lookup("a").Value.String())
	require.Equal(t, "env", set.Lookup("b").Value.String())
	useA, useB, err := sources.Choose("a", "b")
	require.NoError(t, err)
	require.True(t, useA)
	require.False(t, useB)
}

// A script that passes "$DATA" without the variable must not get a server in another place.
func TestAnEmptyValueOnTheCommandLineIsRefused(t *testing.T) {
	set := flags(t, "--a=")
	_, err := ReadEnvironment(set, clitest.Environment("SEQUIN_A", "env"))
	require.EqualError(t, err, "--a is empty: give it a value, or leave it out")
	require.Equal(t, ExitUsage, ExitCode(err))
}

func TestAnEmptyVariableIsNotSet(t *testing.T) {
	set := flags(t)
	sources, err := ReadEnvironment(set, clitest.Environment("SEQUIN_A", ""))
	require.NoError(t, err)
	require.Empty(t, sources)
	require.Equal(t, "default", set.Lookup("a").Value.String())
	useA, useB, err := sources.Choose("a", "b")
	require.NoError(t, err)
	require.False(t, useA || useB)
}
