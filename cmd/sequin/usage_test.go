package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestWrongUsageExitsWith2AndOneLineThatSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		args string
		env  []string
		want string
	}{
		{"nope", nil, `there is no command "nope": see "sequin --help"`},
		{"serv", nil, `did you mean serve?`},
		{"backup d", nil, `--to is missing: usage is "sequin backup DIR --to NEW [--json]"`},
		{"help nope", nil, `there is no command "nope"`},
		{"serve more", nil, `unexpected argument "more": usage is "sequin serve [flags]"`},
		{"version more", nil, `unexpected argument "more"`},
		{"serve --token=secret", nil, `unknown flag: --token: see "sequin serve --help"`},
		{"serve --memory --sync never", nil, `want always, or a duration such as 100ms`},
		{"serve --memory --sync -1s", nil, `want always, or a duration such as 100ms`},
		{"serve --memory --sync 1s", nil, `--sync does nothing with --memory`},
		{"serve --memory --min-free 1GiB", nil, `--min-free does nothing with --memory`},
		{"serve --memory --data d", nil, `--data and --memory exclude each other`},
		{"serve", []string{"SEQUIN_MEMORY", "true", "SEQUIN_DATA", "d"}, `--data and --memory exclude each other`},
		{"serve", []string{"SEQUIN_MEMORY", "maybe"}, `invalid value "maybe" in $SEQUIN_MEMORY`},
		{"serve", []string{"SEQUIN_MAX_STREAMS", "many"}, `in $SEQUIN_MAX_STREAMS`},
		{"serve", nil, `there is no home directory for the messages`},
		{"serve --data=", nil, `--data is empty: give it a value, or leave it out`},
		{"serve --postgres=", []string{"HOME", "/nonexistent"}, `--postgres is empty`},
		{"serve --memory --token-file=", nil, `--token-file is empty`},
		{"stream ls --url=", nil, `--url is empty`},
		{"serve --compat aug2024 --data d", nil, `add --memory`},
		{"serve --compat 2023 --memory", nil, `want documented or aug2024`},
		{"serve --memory --tls-cert c", nil, `--tls-cert and --tls-key belong together`},
		{"serve --memory --tls-key c", nil, `--tls-cert and --tls-key belong together`},
		{"serve --memory --log-level loud", nil, `want debug, info, warn or error`},
		{"serve --memory --log-format xml", nil, `want text or json`},
		{"serve --memory --addr 0.0.0.0:0", nil, `other machines can reach --addr 0.0.0.0:0, and there is no token`},
		{"serve --memory --max-streams 0", nil, `--max-streams: it must be above 0`},
		{"serve --memory --max-connections -1", nil, `--max-connections: it must be above 0`},
		{"serve --memory --max-waiting 0", nil, `--max-waiting: it must be above 0`},
		{"serve --memory --header-timeout 0s", nil, `--header-timeout: it must be above 0`},
		{"serve --memory --idle-timeout 0s", nil, `--idle-timeout: it must be above 0`},
		{"serve --memory --shutdown-timeout -1s", nil, `--shutdown-timeout: it must be above 0`},
		{"serve --memory --max-request-bytes 2GiB", nil, `at most 1073741824`},
		{"serve --memory --max-request-bytes 3XB", nil, `want a number of bytes`},
		{"serve --memory --max-bytes-in-flight 1MB", nil, `at least --max-request-bytes, 8MB`},
		{"serve --memory", []string{"SEQUIN_TOKEN", "two words"}, `the token in $SEQUIN_TOKEN cannot be sent in a header`},
		{"serve --memory --token-file " + clitest.File(t, " \n"), nil, `there is no token in `},
		{"serve --memory --token-file " + clitest.File(t, "one\ntwo\n"), nil, `write one line`},
	} {
		requireWrongUsage(t, tt.args, tt.env, tt.want)
	}
}

func TestWrongValuesAreRefusedInPlainWords(t *testing.T) {
	for _, tt := range []struct {
		args string
		env  []string
		want string
	}{
		{"serve --memory --max-streams x", nil, `invalid --max-streams "x": want a whole number: see "sequin serve --help"`},
		{"messages orders --after x", nil, `invalid --after "x": want a whole number: see`},
		{"messages orders --after -1", nil, `invalid --after -1: it must be at least 0`},
		{"messages orders --limit 0", nil, `invalid --limit 0: it must be above 0`},
		{"messages orders --after 99999999999999999999", nil, `invalid --after "99999999999999999999": the number is too large`},
		{"consumer add orders billing --ack-wait 30", nil, `invalid --ack-wait "30": want a time such as 500ms, 30s or 5m: see`},
		{"serve --memory=maybe", nil, `invalid --memory "maybe": want true or false`},
		{"serve --memory", []string{"SEQUIN_IDLE_TIMEOUT", "x"}, `invalid value "x" in $SEQUIN_IDLE_TIMEOUT: want a time such as`},
	} {
		requireWrongUsage(t, tt.args, tt.env, tt.want)
	}
}

// requireWrongUsage runs a command, which must exit with 2 and print one line with the text want.
func requireWrongUsage(t *testing.T, args string, env []string, want string) {
	t.Helper()
	code, out, errors := runNow(clitest.Environment(env...), strings.Fields(args)...)
	require.Equalf(t, cli.ExitUsage, code, "%s: %s", args, errors)
	require.Empty(t, out)
	require.Contains(t, errors, want)
	require.True(t, strings.HasPrefix(errors, "sequin: "))
	require.Equal(t, 1, strings.Count(errors, "\n"), errors)
	for _, secret := range []string{"secret", "two words", "one\n"} {
		require.NotContains(t, errors, secret)
	}
}

func TestWhatCannotBeDoneExitsWith1(t *testing.T) {
	for args, want := range map[string]string{
		"serve --memory --token-file " + filepath.Join(t.TempDir(), "nope"):          "cannot read the token file",
		"serve --memory --addr 127.0.0.1:x":                                          "cannot listen on --addr 127.0.0.1:x",
		"serve --memory --addr nope.invalid:1":                                       "cannot listen on --addr nope.invalid:1",
		"serve --memory --tls-cert " + clitest.File(t, "x") + " --tls-key /nope/key": "cannot use --tls-cert",
	} {
		code, _, errors := runNow(clitest.Environment(), strings.Fields(args)...)
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, errors, want)
		require.Equal(t, 1, strings.Count(errors, "\n"), errors)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range []string{"", "help", "--help", "serve --help", "help serve"} {
		code, out, errors := runNow(clitest.Environment("SEQUIN_TOKEN", "secret"), strings.Fields(args)...)
		require.Equal(t, cli.ExitOK, code)
		require.Contains(t, out, "Usage:\n  sequin")
		require.Empty(t, errors)
		require.NotContains(t, out, "secret")
		for line := range strings.SplitSeq(out, "\n") {
			require.LessOrEqual(t, len(line), 100)
		}
	}
	code, out, _ := runNow(clitest.Environment(), "version")
	require.Equal(t, cli.ExitOK, code)
	require.Regexp(t, `^sequin `+sequin.Version+` \(go\S+, \w+/\w+\)\n$`, out)
	_, out, _ = runNow(clitest.Environment(), "version", "--json")
	var b build
	require.NoError(t, json.Unmarshal([]byte(out), &b))
	require.Equal(t, sequin.Version, b.Version)
}

// TestTheHelpOfEachCommand has the help of all of them in one file, so that a change of a text is seen.
func TestTheHelpOfEachCommand(t *testing.T) {
	var all strings.Builder
	var add func(cmd *cobra.Command)
	add = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		code, out, errors := runNow(clitest.Environment("SEQUIN_TOKEN", "secret", "SEQUIN_POSTGRES", "postgres://u:secret@h/d"), append([]string{"help"}, path...)...)
		require.Equal(t, cli.ExitOK, code)
		require.Empty(t, errors)
		require.NotContains(t, out, "secret")
		for line := range strings.SplitSeq(out, "\n") {
			require.LessOrEqual(t, len(line), 100, cmd.CommandPath())
		}
		all.WriteString("$ sequin help " + strings.Join(path, " ") + "\n" + out + "\n")
		for _, below := range cmd.Commands() {
			add(below)
		}
	}
	add(newRoot(world{}))
	compare(t, "help", all.String())
}

// TestEachFlagOfServeCanBeSetByItsVariable sets every flag to another value than its default.
func TestEachFlagOfServeCanBeSetByItsVariable(t *testing.T) {
	values := map[string]string{"bool": "true", "int": "7", "size": "9MB", "duration": "7s", "string": "text"}
	flags := newServe(world{}).Flags()
	flags.VisitAll(func(f *pflag.Flag) {
		value, known := values[f.Value.Type()]
		require.True(t, known, f.Name)
		sources, err := cli.ReadEnvironment(flags, clitest.Environment(cli.EnvName(f.Name), value))
		require.NoError(t, err)
		require.Equal(t, cli.Environment, sources[f.Name])
		require.Equal(t, value, f.Value.String())
		require.Contains(t, f.Usage, "[$SEQUIN_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))+"]")
	})
}

func TestTheDefaultDirectoryFollowsTheXDGSpecification(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{[]string{"XDG_DATA_HOME", filepath.FromSlash("/x"), "HOME", "h"}, "/x/sequin"},
		{[]string{"XDG_DATA_HOME", "relative", "HOME", "h"}, "h/.local/share/sequin"},
		{[]string{"HOME", "h"}, "h/.local/share/sequin"},
		{[]string{"USERPROFILE", "u"}, "u/.local/share/sequin"},
	} {
		dir, err := defaultDir(clitest.Environment(tt.env...))
		require.NoError(t, err)
		require.Equal(t, tt.want, filepath.ToSlash(dir))
	}
}
