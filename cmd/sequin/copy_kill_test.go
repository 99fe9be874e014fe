package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/server/transfer"
)

// copyChild is set for a test binary that is not to test: it copies, as the command does, and prints a line for each step.
const copyChild = "SEQUIN_COPY_CHILD"

func runCopyChild() int {
	ctx := context.Background()
	w := world{errors: os.Stderr}
	from, err := openEnd(ctx, w, os.Getenv("SEQUIN_FROM"), true)
	var to *end
	if err == nil {
		to, err = openEnd(ctx, w, os.Getenv("SEQUIN_TO"), false)
	}
	if err == nil {
		_, err = transfer.Copy(ctx, from.store, to.store, transfer.Options{Progress: func(p transfer.Progress) {
			fmt.Println(p.Copied)
		}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// killCopyAfter runs a copy in another process and kills that when it has printed so many lines. It reports whether the copy was
// faster.
func killCopyAfter(t *testing.T, from, to string, lines int) (ended bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), copyChild+"=1", "SEQUIN_FROM="+from, "SEQUIN_TO="+to)
	var errors clitest.Buffer
	child.Stderr = &errors
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	printed := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == lines {
			_ = child.Process.Kill() // it may have ended
		}
		if _, err := printed.ReadString('\n'); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	if err := child.Wait(); err != nil {
		require.ErrorContains(t, err, "killed", errors.String())
		return false
	}
	return true
}

// TestAKilledCopyLosesNothing kills copies again and again. What was acked stays acked, and all else is delivered once.
func TestAKilledCopyLosesNothing(t *testing.T) {
	dir, back := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "back")
	database := newDatabase(t, "copy_killed")
	const messages, batch = 12_000, 1_000
	p := serveAt(t, dir)
	p.ok("POST", "/api/streams", `{"name":"s"}`)
	for i := 0; i < messages; i += batch {
		var list []string
		for j := i; j < i+batch; j++ {
			list = append(list, fmt.Sprintf(`{"key":"k.%d","data":"data of %d"}`, j, j))
		}
		p.ok("POST", "/api/streams/s/messages", `{"messages":[`+strings.Join(list, ",")+`]}`)
	}
	acked := map[string]map[string]bool{}
	for _, c := range []string{"a", "b", "c"} {
		p.ok("POST", "/api/streams/s/consumers", `{"name":"`+c+`","filter_key_pattern":">","max_ack_pending":50000,"ack_wait_ms":3600000}`)
		acked[c] = map[string]bool{}
		var done []delivered
		for i, d := range p.receive("s/consumers/"+c, 700) {
			if i%7 != 3 {
				done = append(done, d)
				acked[c][d.Message.Key] = true
			}
		}
		p.ack("s/consumers/"+c, done)
	}
	p.stop()

	kills := 0
	for _, ends := range [][2]string{{dir, database}, {database, back}} {
		for n := 0; !killCopyAfter(t, ends[0], ends[1], 1+n); n++ {
			kills++
			require.Less(t, n, 50, "the copy goes on")
		}
		code, _, errors := runNow(clitest.Environment("SEQUIN_FROM", ends[0], "SEQUIN_TO", ends[1]), "copy")
		require.Equal(t, 0, code, errors)
	}
	require.Greater(t, kills, 3)

	p = serveAt(t, back)
	for c, done := range acked {
		seen := map[string]bool{}
		for {
			all := p.receive("s/consumers/"+c, batch)
			if len(all) == 0 {
				break
			}
			for _, d := range all {
				require.False(t, done[d.Message.Key], "%s was acked", d.Message.Key)
				require.False(t, seen[d.Message.Key], "%s was copied twice", d.Message.Key)
				require.Equal(t, "data of"+strings.Replace(d.Message.Key, "k.", " ", 1), d.Message.Data)
				seen[d.Message.Key] = true
			}
		}
		require.Len(t, seen, messages-len(done))
	}
}
