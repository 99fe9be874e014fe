package command_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/examples/internal/command"
)

func TestWrongArgumentsAreReportedOnceWithTheUsage(t *testing.T) {
	for _, row := range []struct {
		args  string
		code  int
		shows string
	}{
		{"-n 7 file", 0, ""},
		{"-h", 0, "usage: tool [-n N] [FILE]\n\nTool shows.\n\n  -n N\n    \ta number\n"},
		{"-x", 2, "tool: flag provided but not defined: -x\nusage: tool [-n N] [FILE]; -h explains them\n"},
		{"-n many", 2, "tool: invalid value \"many\" for flag -n: parse error\nusage: tool [-n N] [FILE]; -h explains them\n"},
		{"file more", 2, "tool: unexpected argument \"more\"\nusage: tool [-n N] [FILE]; -h explains them\n"},
	} {
		var out strings.Builder
		flags := flag.NewFlagSet("tool", flag.ContinueOnError)
		flags.Int("n", 0, "a `N`umber")
		tool := command.Command{Name: "tool", Usage: "[-n N] [FILE]", About: "Tool shows.\n", Files: 1}
		require.Equal(t, row.code, command.ExitCode(tool.Parse(flags, strings.Fields(row.args), &out)), row.args)
		require.Equal(t, row.shows, strings.ReplaceAll(out.String(), "a Number", "a number"))
	}
}

func TestRunPrintsTheErrorAndReturnsTheExitCode(t *testing.T) {
	var out strings.Builder
	tool := command.Command{Name: "tool"}
	require.Zero(t, tool.Run(&out, func(context.Context) error { return nil }))
	require.Empty(t, out.String())
	require.Equal(t, 1, tool.Run(&out, func(context.Context) error { return errors.New("no luck") }))
	require.Equal(t, "tool: no luck\n", out.String())
}

func TestASignalEndsTheContextOfRun(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent such a signal")
	}
	require.Zero(t, command.Command{}.Run(os.Stderr, func(ctx context.Context) error {
		self, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, self.Signal(os.Interrupt))
		<-ctx.Done()
		return nil
	}))
}
