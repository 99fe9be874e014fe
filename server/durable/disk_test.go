package durable_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
	"github.com/sequin-go/sequin/server/internal/store"
)

// milestones lets a test wait for events of a load.
type milestones struct {
	mu      sync.Mutex // guards what follows
	journal torture.Journal
	wanted  func(torture.Event) bool
	reached chan struct{}
}

func (m *milestones) add(e torture.Event) {
	m.journal.Add(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted != nil && m.wanted(e) {
		m.wanted = nil
		close(m.reached)
	}
}

// wait waits for an event.
func (m *milestones) wait(wanted func(torture.Event) bool) {
	reached := make(chan struct{})
	m.mu.Lock()
	m.wanted, m.reached = wanted, reached
	m.mu.Unlock()
	<-reached
}

func is(op torture.Op, phase torture.Phase, text string) func(torture.Event) bool {
	return func(e torture.Event) bool { return e.Op == op && e.Phase == phase && strings.Contains(e.Err, text) }
}

// TestARealDiskFillsUp fills a small volume under load, and frees it again. It has to mount one.
func TestARealDiskFillsUp(t *testing.T) {
	if os.Getenv("TORTURE_MOUNT") == "" || runtime.GOOS != "linux" {
		t.Skip("it mounts a volume: TORTURE_MOUNT=1 allows that")
	}
	volume := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", volume).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", volume).Run()) })
	dir := filepath.Join(volume, "data")
	o := durable.Options{MinFree: 4 << 20, SegmentBytes: 256 << 10, SnapshotBytes: 512 << 10}
	st := openStore(t, dir, o)
	require.NoError(t, torture.Setup(t.Context(), st))

	s, err := st.Stream(t.Context(), "log")
	require.NoError(t, err)
	slow, err := s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "slow", Filter: ">", ConsumerLimits: store.ConsumerLimits{AckWait: torture.AckWait, MaxAckPending: 100}})
	require.NoError(t, err)

	var m milestones
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	// A load that fills MinFree within the second between two looks at the volume would fill the whole volume.
	plan := torture.Plan{Think: 20 * time.Millisecond}
	go func() { ended <- torture.NewWorkload(st, plan, m.add).Run(ctx) }()
	m.wait(is(torture.Send, torture.Done, ""))
	ballast := filepath.Join(volume, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 7<<20), 0o600))
	m.wait(is(torture.Send, torture.Refused, store.ErrDiskFull.Error()))
	got, err := slow.Receive(t.Context(), 10, nil)
	require.NoError(t, err)
	require.NotEmpty(t, got)
	require.NoError(t, slow.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack))
	require.NoError(t, os.Remove(ballast))
	m.wait(is(torture.Send, torture.Done, ""))
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, st.Close())
	st = openStore(t, dir, o)
	requireNoFaults(t, accountsOf(m.journal.Events(), false).Check(t.Context(), st, false))
	require.NoError(t, st.Close())
}

// TestASecondProcessIsToldWhoHasTheDirectory opens a directory that a process uses, and again when that was killed.
func TestASecondProcessIsToldWhoHasTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	st := openStore(t, dir, childOptions(durable.SyncAlways))
	require.NoError(t, torture.Setup(t.Context(), st))
	_, err := durable.Open(dir, childOptions(durable.SyncAlways))
	require.ErrorIs(t, err, store.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()))
	require.NoError(t, st.Close())

	a := torture.NewAccounts()
	killAfter(t, dir, durable.SyncAlways, torture.Plan{}, 10, a, func(pid int) {
		_, err := durable.Open(dir, childOptions(durable.SyncAlways))
		var locked *store.LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, pid, locked.PID)
	})
	st = openStore(t, dir, childOptions(durable.SyncAlways))
	requireNoFaults(t, a.Check(t.Context(), st, false))
	require.NoError(t, st.Close())
}
