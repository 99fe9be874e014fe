package main

import (
	"debug/elf"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	require.NoError(t, err)
	return string(text)
}

// variables are the environment variables that serve reads.
func variables() (names []string) {
	newServe(world{}).Flags().VisitAll(func(f *pflag.Flag) { names = append(names, cli.EnvName(f.Name)) })
	return append(names, "SEQUIN_TOKEN")
}

func TestTheFilesOfDeployNameVariablesThatExist(t *testing.T) {
	for _, file := range []string{"Dockerfile", "sequin.service", "compose.yaml"} {
		named := regexp.MustCompile(`SEQUIN_[A-Z_]+`).FindAllString(readDeploy(t, file), -1)
		require.NotEmpty(t, named)
		for _, name := range named {
			require.Contains(t, variables(), name, file)
		}
	}
}

// TestTheImagesCommandServes runs what the image runs, with its environment. The build is that of the image.
func TestTheImagesCommandServes(t *testing.T) {
	text := readDeploy(t, "Dockerfile")
	require.Contains(t, text, strings.Join(buildCommand("/out/sequin"), " "), "the tests build the program as the image does")
	require.Contains(t, text, "\nUSER 65532:65532\n")
	if runtime.GOOS == "linux" {
		path, err := binary()
		require.NoError(t, err)
		program, err := elf.Open(path)
		require.NoError(t, err)
		defer program.Close()
		for _, p := range program.Progs {
			require.NotEqual(t, elf.PT_INTERP, p.Type, "the image has no loader for a program that is not static")
		}
	}
	env := strings.Fields(regexp.MustCompile(`(?m)^ENV (.*)$`).FindStringSubmatch(text)[1])
	require.Contains(t, env, "SEQUIN_DATA=/data")
	require.Contains(t, text, "\nVOLUME /data\n")
	command := regexp.MustCompile(`(?m)^CMD \["(.*)"\]$`).FindStringSubmatch(text)[1]
	for i := range env {
		env[i] = strings.NewReplacer("=/data", "="+t.TempDir(), "=:7376", "=:0").Replace(env[i])
	}
	code, _, errors := runNow(clitest.Environment(pairs(env)...), command)
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, errors, "there is no token")
	c := startChild(t, append(env, "SEQUIN_TOKEN=0123456789abcdef"), command)
	require.Contains(t, c.usage, "every machine that can reach")
	require.Equal(t, cli.ExitOK, c.terminate(t), c.errors.String())
}

// pairs splits NAME=value.
func pairs(env []string) (out []string) {
	for _, one := range env {
		name, value, _ := strings.Cut(one, "=")
		out = append(out, name, value)
	}
	return out
}

// TestTheUnitsCommandServes runs the command of the systemd unit with its environment, and reads what systemd would be told.
func TestTheUnitsCommandServes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("systemd is part of Linux")
	}
	unit := readDeploy(t, "sequin.service")
	command := strings.Fields(regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)[1])
	require.Equal(t, "/usr/local/bin/sequin", command[0])
	variable := regexp.MustCompile(`(?m)^Environment=(.*)$`).FindStringSubmatch(unit)[1]
	require.Equal(t, "SEQUIN_DATA=/var/lib/sequin", variable)
	require.Contains(t, unit, "\nStateDirectory=sequin\n")
	require.Contains(t, unit, "\nType=notify\n")
	require.Contains(t, unit, "\nExecReload=/bin/kill -HUP $MAINPID\n")

	socket := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer told.Close()
	require.NoError(t, told.SetReadDeadline(time.Now().Add(patience)))
	next := func() string {
		message := make([]byte, 100)
		n, err := told.Read(message)
		require.NoError(t, err)
		return string(message[:n])
	}
	env := []string{"NOTIFY_SOCKET=" + socket, "SEQUIN_ADDR=127.0.0.1:0", "SEQUIN_DATA=" + t.TempDir()}
	c := startChild(t, env, command[1:]...)
	require.Equal(t, "READY=1", next())
	resp, err := http.Get(c.url + "/readyz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, cli.ExitOK, c.terminate(t), c.errors.String())
	require.Equal(t, "STOPPING=1", next())
}

// TestSystemdAcceptsTheUnit runs where systemd is installed, which .ci/run makes sure of.
func TestSystemdAcceptsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "systemd-analyze is not installed")
		t.Skip("systemd-analyze is not installed")
	}
	path, err := binary()
	require.NoError(t, err)
	unit := filepath.Join(t.TempDir(), "sequin.service")
	text := strings.Replace(readDeploy(t, "sequin.service"), "/usr/local/bin/sequin", path, 1)
	require.NoError(t, os.WriteFile(unit, []byte(text), 0o600))
	for _, args := range [][]string{{"verify", unit}, {"security", "--offline=yes", "--threshold=15", unit}} {
		out, err := exec.Command(analyze, args...).CombinedOutput()
		if strings.Contains(string(out), "unrecognized option") {
			continue // older versions cannot judge a unit that is not installed
		}
		require.NoErrorf(t, err, "%s", out)
		if slices.Contains(args, "verify") {
			require.Empty(t, string(out))
		}
	}
}
