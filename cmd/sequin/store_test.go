package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/server/durable"
)

// TestTheMessagesSurviveARestart uses the directory that is the default.
func TestTheMessagesSurviveARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "share")
	lookup := clitest.Environment("XDG_DATA_HOME", data)
	p := start(t, lookup)
	dir := filepath.Join(data, "sequin")
	require.Contains(t, p.usage, "  data    "+dir+"\n  store   on disk, synced before each answer: survives a loss of power\n")
	require.Contains(t, p.usage, `-d '{"name":"orders"}'`)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	p.ok("POST", "/api/streams", `{"name":"orders"}`)
	p.ok("POST", "/api/streams/orders/messages", `{"messages":[{"key":"a","data":"1"}]}`)
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitOK, p.wait(), p.errors.String())

	p = start(t, lookup, "--sync", "100ms", "--min-free", "1B")
	require.Contains(t, p.usage, "on disk, synced every 100ms: survives the end of the process; a loss of power takes the last 100ms")
	require.NotContains(t, p.usage, `-d '{"name":"orders"}'`, "the stream is there")
	require.Contains(t, p.ok("GET", "/api/streams/orders/messages", ""), `"data":"1"`)
}

func TestADirectoryInUseIsRefusedWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, nil, "serve", "--addr", "127.0.0.1:0", "--data", dir)
	for _, args := range [][]string{
		{"serve", "--addr", "127.0.0.1:0", "--data", dir}, {"check", dir}, {"repair", dir, "--to", filepath.Join(t.TempDir(), "new")},
	} {
		code, _, errors := runNow(clitest.Environment(), args...)
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, errors, fmt.Sprintf("in use by process %d", c.Process.Pid))
		require.Contains(t, errors, "stop that process")
	}
	require.Equal(t, cli.ExitOK, c.terminate(t))
}

func TestADirectoryThatCannotBeWrittenIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locked")
	require.NoError(t, os.Mkdir(dir, 0o500))
	if os.Geteuid() == 0 {
		dir = "/proc/sequin" // the superuser can write everywhere else
	}
	code, _, errors := runNow(clitest.Environment(), "serve", "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, "cannot open the data directory "+dir)
}

// TestAFullDiskIsReportedAtTheStart limits the size of files, so that not even the first one has room.
func TestAFullDiskIsReportedAtTheStart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the limits of shells are not alike")
	}
	path, err := binary()
	require.NoError(t, err)
	out, err := exec.Command("sh", "-c", `ulimit -f 100; exec "$0" serve --addr 127.0.0.1:0 --data "$1"`, path, t.TempDir()).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, cli.ExitFailed, exit.ExitCode())
	require.Contains(t, string(out), "no room is left")
	require.Contains(t, string(out), ": make room on that disk")
	require.Equal(t, 1, strings.Count(string(out), "\n"))
}

// stored returns a directory with a stream of five messages, whose server is stopped.
func stored(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, clitest.Environment(), "--data", dir)
	p.ok("POST", "/api/streams", `{"name":"s"}`)
	for i := range 5 {
		p.ok("POST", "/api/streams/s/messages", fmt.Sprintf(`{"messages":[{"key":"k.%d","data":"data of %d"}]}`, i, i))
	}
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitOK, p.wait())
	return dir
}

// damage changes a bit of the third message.
func damage(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	for _, segment := range segments {
		text, err := os.ReadFile(segment)
		require.NoError(t, err)
		if i := bytes.Index(text, []byte("data of 2")); i >= 0 {
			text[i] ^= 1
			require.NoError(t, os.WriteFile(segment, text, 0o600))
			return
		}
	}
	t.Fatal("no segment has the message")
}

func TestADirectoryOfAnotherVersionIsRefusedAndNotChanged(t *testing.T) {
	dir := stored(t)
	format := filepath.Join(dir, "FORMAT")
	text, err := os.ReadFile(format)
	require.NoError(t, err)
	var content struct {
		Format int
		Store  string
	}
	require.NoError(t, json.Unmarshal(text, &content))
	content.Format = 99
	sum := crc32.Checksum(fmt.Appendf(nil, "%d %s", content.Format, content.Store), crc32.MakeTable(crc32.Castagnoli))
	newer := fmt.Appendf(nil, `{"format":%d,"store":%q,"check":%d}`, content.Format, content.Store, sum)
	require.NoError(t, os.WriteFile(format, newer, 0o600))
	before := listing(t, dir)
	for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0", "--data", dir}, {"check", dir}} {
		code, _, errors := runNow(clitest.Environment(), args...)
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, errors, "it has 99, this program knows 1: use the version of sequin that wrote it")
	}
	require.Equal(t, before, listing(t, dir))
}

// listing returns the names, sizes and times of the files of a directory.
func listing(t *testing.T, dir string) (out []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, file := range files {
		info, err := file.Info()
		require.NoError(t, err)
		if file.Name() != "lock" { // it holds the process that has looked last
			out = append(out, fmt.Sprint(file.Name(), info.Size(), info.ModTime()))
		}
	}
	return out
}

func TestCheckFindsNoFaultInADirectoryThatWasClosed(t *testing.T) {
	dir := stored(t)
	code, out, errors := runNow(clitest.Environment(), "check", dir)
	require.Equal(t, cli.ExitOK, code, errors)
	require.Regexp(t, `^\S+: store \S+ with 1 segment, 1 snapshot, \d+ records, \d+ bytes

STREAM  MESSAGES  CONSUMERS  LOST
s       5         0          none

no faults
$`, out)
	code, out, _ = runNow(clitest.Environment(), "check", dir, "--json")
	require.Equal(t, cli.ExitOK, code)
	var report durable.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, 5, report.Streams[0].Messages)
}

// TestADamagedDirectoryIsReportedAndRepaired follows what each command says.
func TestADamagedDirectoryIsReportedAndRepaired(t *testing.T) {
	dir := stored(t)
	damage(t, dir)
	before := listing(t, dir)
	code, _, errors := runNow(clitest.Environment(), "repair", dir, "--to", filepath.Join(dir, "new"))
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, "which must not change")
	code, out, errors := runNow(clitest.Environment(), "check", dir)
	require.Equal(t, cli.ExitFailed, code)
	require.Regexp(t, `(?m)^s +4 +0 +seq 3$`, out)
	require.Regexp(t, `(?m)^fault: \d+\.seg at offset \d+`, out)
	require.Contains(t, errors, `save what can be read with "sequin repair `+dir)
	code, out, _ = runNow(clitest.Environment(), "check", dir, "--json")
	require.Equal(t, cli.ExitFailed, code)
	require.True(t, json.Valid([]byte(out)))

	fixed := filepath.Join(t.TempDir(), "new")
	code, out, errors = runNow(clitest.Environment(), "repair", dir, "--to", fixed)
	require.Equal(t, cli.ExitOK, code, errors)
	require.Contains(t, out, "start the server with --data "+fixed)
	require.Equal(t, before, listing(t, dir), "the old directory is not changed")
	code, _, errors = runNow(clitest.Environment(), "repair", dir, "--to", fixed)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, "is not empty")

	p := start(t, clitest.Environment(), "--data", fixed)
	list := p.ok("GET", "/api/streams/s/messages", "")
	for i := range 5 {
		require.Equal(t, i != 2, strings.Contains(list, fmt.Sprintf(`"data of %d"`, i)))
	}
}

func TestServeSaysWhatToDoAboutADamagedDirectory(t *testing.T) {
	dir := stored(t)
	damage(t, dir)
	snapshots, err := filepath.Glob(filepath.Join(dir, "snap-*"))
	require.NoError(t, err)
	for _, snapshot := range snapshots { // so that the message has to be read
		require.NoError(t, os.Remove(snapshot))
	}
	code, _, errors := runNow(clitest.Environment(), "serve", "--addr", "127.0.0.1:0", "--data", dir)
	require.Equal(t, cli.ExitFailed, code)
	require.Regexp(t, `\.seg at offset \d+`, errors)
	require.Contains(t, errors, `"sequin check `+dir+`"`)
}

// TestADirectoryWithoutFORMATIsRepaired loses the file by which a store is known.
func TestADirectoryWithoutFORMATIsRepaired(t *testing.T) {
	dir := stored(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "FORMAT")))
	code, _, errors := runNow(clitest.Environment(), "serve", "--addr", "127.0.0.1:0", "--data", dir)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, `"sequin check `+dir+`"`)
	code, out, _ := runNow(clitest.Environment(), "check", dir)
	require.Equal(t, cli.ExitFailed, code)
	require.Regexp(t, `(?m)^s +5 +0 +none$`, out)
	require.Contains(t, out, "fault: FORMAT at offset 0: the file is missing\n")
	fixed := filepath.Join(t.TempDir(), "new")
	code, _, errors = runNow(clitest.Environment(), "repair", dir, "--to", fixed)
	require.Equal(t, cli.ExitOK, code, errors)
	code, _, errors = runNow(clitest.Environment(), "check", fixed)
	require.Equal(t, cli.ExitOK, code, errors)
}

func TestWhatIsNoDirectoryOfAStoreExitsWith3(t *testing.T) {
	for _, dir := range []string{filepath.Join(t.TempDir(), "nope"), t.TempDir(), clitest.File(t, "x")} {
		for _, args := range [][]string{{"check", dir}, {"repair", dir, "--to", "new"}} {
			code, _, errors := runNow(clitest.Environment(), args...)
			require.Equal(t, cli.ExitNotFound, code, errors)
			require.Contains(t, errors, dir)
		}
	}
	for _, args := range [][]string{{"check"}, {"repair", t.TempDir()}, {"check", "a", "b"}} {
		code, _, _ := runNow(clitest.Environment(), args...)
		require.Equal(t, cli.ExitUsage, code)
	}
}

// TestWhatWasAnsweredSurvivesAKill kills the process again and again while messages are sent, received and acked, and keeps
// account of every answer.
func TestWhatWasAnsweredSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	sent, acked := map[string]bool{}, map[string]bool{}
	next := 0
	for round := range 3 {
		c := startChild(t, nil, "serve", "--addr", "127.0.0.1:0", "--data", dir)
		client, err := sequin.NewClient(sequin.Config{BaseURL: c.url})
		require.NoError(t, err)
		_, err = client.EnsureStream(ctx, "s", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = client.EnsureConsumer(ctx, "s", "c", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		stored, err := client.ListMessages(ctx, "s", sequin.ListOptions{Limit: 10_000})
		require.NoError(t, err)
		there := map[string]bool{}
		for _, m := range stored {
			there[m.Key] = true
		}
		for key := range sent {
			require.True(t, there[key], "round %d: %s was answered", round, key)
		}
		killAfter := 20 + rand.IntN(100)
		for i := range killAfter {
			if i == killAfter-1 {
				go c.Process.Kill() // while the next request runs
			}
			key := fmt.Sprintf("k.%d", next)
			next++
			if _, err := client.SendMessage(ctx, "s", key, "x"); err == nil {
				sent[key] = true
			}
			m, err := client.ReceiveMessage(ctx, "s", "c")
			if err != nil || m == nil {
				continue
			}
			require.False(t, acked[m.Key], "%s was acked", m.Key)
			if client.AckMessage(ctx, "s", "c", m.AckID) == nil {
				acked[m.Key] = true
			}
		}
		_ = c.Wait()
	}
	require.NotEmpty(t, acked)
}
