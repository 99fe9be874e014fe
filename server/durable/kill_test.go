package durable_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
)

// The test binary is the process that is killed, too: with childDir set it runs a load on the store in that directory.
const (
	childDir  = "DURABLE_TORTURE_DIR"
	childSync = "DURABLE_TORTURE_SYNC" // a duration, or 0s for always
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, runChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// childOptions are those of small, on the file system of the machine.
func childOptions(sync durable.SyncPolicy) durable.Options {
	return durable.Options{Sync: sync, MinFree: -1, SegmentBytes: 256 << 10, SnapshotBytes: 512 << 10}
}

// runChild reads a plan from standard input and runs a load until it is killed. It writes every event to standard output at
// once.
func runChild(dir string) error {
	var plan torture.Plan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		return err
	}
	every, err := time.ParseDuration(os.Getenv(childSync))
	if err != nil {
		return err
	}
	st, err := durable.Open(dir, childOptions(durable.SyncEvery(every)))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	add := func(e torture.Event) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(e); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
	return torture.NewWorkload(st, plan, add).Run(context.Background())
}

// TestAKilledProcessLosesNoAnswer kills a process that uses the store, again and again.
func TestAKilledProcessLosesNoAnswer(t *testing.T) {
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			st := openStore(t, dir, childOptions(policy))
			require.NoError(t, torture.Setup(t.Context(), st))
			require.NoError(t, st.Close())
			a := torture.NewAccounts()
			random := rand.New(rand.NewPCG(1, 2))
			for n := range fromEnv("TORTURE_KILLS", 3) {
				plan := a.Plan()
				plan.Seed = uint64(n)
				killAfter(t, dir, policy, plan, 50+random.IntN(1_500), a, nil)
				st := openStore(t, copyDir(t, dir), childOptions(policy)) // a copy, because opening changes it
				requireNoFaults(t, a.Check(t.Context(), st, false), "kill ", n)
				require.NoError(t, st.Close())
			}
			synctest.Test(t, func(t *testing.T) {
				st := openStore(t, dir, childOptions(policy))
				requireNoFaults(t, a.Drain(t.Context(), st, func() { time.Sleep(torture.MaxWait) }))
				require.NoError(t, st.Close())
			})
		})
	}
}

// killAfter runs a load in another process, and kills that after so many events. before is called before that, unless it is
// nil.
func killAfter(t *testing.T, dir string, policy durable.SyncPolicy, plan torture.Plan, events int, a *torture.Accounts, before func(pid int)) {
	t.Helper()
	input, err := json.Marshal(plan)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir, childSync+"="+policy.Every().String())
	child.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == events {
			if before != nil {
				before(child.Process.Pid)
			}
			require.NoError(t, child.Process.Kill())
		}
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break // of the last line a part may be there: that event is not known
		}
		require.NoError(t, err)
		var e torture.Event
		require.NoError(t, json.Unmarshal(line, &e))
		a.Apply(e)
	}
	require.ErrorContains(t, child.Wait(), "killed", stderr.String())
	a.Crashed(false)
}

// copyDir copies the files of a directory to a new one.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}
