package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// The test binary is the command of TestTheCommandIsRun, and one that a signal ends at once, whatever it has started.
func TestMain(m *testing.M) {
	if script := os.Getenv("CRON_WORKER_SCRIPT"); script != "" {
		c := exec.Command("sh", "-c", script)
		c.Stdout = os.Stdout
		_ = c.Run()
		os.Exit(0)
	}
	if os.Getenv("CRON_WORKER_COMMAND") != "" {
		os.Stdout.WriteString("it runs: " + strings.Join(os.Args[1:], " ") + "\n")
		os.Exit(len(os.Args) - 2)
	}
	os.Exit(m.Run())
}

// hourly is a job that is due at each hour, with the shortest leases that make sense.
var hourly = options{name: "report", every: time.Hour, limit: 3 * time.Hour, lease: 30 * time.Second, attempts: 3, grace: 10 * time.Second}

// world is a server in virtual time, and what the processes printed.
type world struct {
	srv    *sequintest.Server
	client *sequin.Client
	mu     sync.Mutex
	out    strings.Builder
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

// lines returns what was printed, without the times.
func (w *world) printed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// inVirtualTime starts at midnight.
func inVirtualTime(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{srv: sequintest.NewServer(t, sequintest.Config{})}
		w.client = w.newClient(t)
		require.NoError(t, prepare(t.Context(), w.client, hourly))
		test(t, w)
	})
}

func (w *world) newClient(t *testing.T) *sequin.Client {
	t.Helper()
	client, err := sequin.NewClient(sequin.Config{BaseURL: w.srv.URL, HTTPClient: w.srv.Client()})
	require.NoError(t, err)
	return client
}

// start starts a process that works. stop stops it.
func (w *world) start(t *testing.T, job func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- work(ctx, w.client, hourly, job, w) }()
	return func() { cancel(); require.NoError(t, <-ended) }
}

// takes returns a job of that length.
func takes(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		if !wait(ctx, time.Now().Add(d)) {
			return context.Cause(ctx)
		}
		return nil
	}
}

func TestEachTickRunsOnceHoweverManyProcessesSendIt(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour+time.Minute)
		defer cancel()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { require.NoError(t, schedule(ctx, w.client, hourly)) })
		}
		stop := w.start(t, takes(time.Minute))
		all.Wait()
		time.Sleep(time.Hour)
		stop()
		require.Equal(t, `report of 01:00:00: attempt 1 of 3
report of 01:00:00: done in 1m0s
report of 02:00:00: attempt 1 of 3
report of 02:00:00: done in 1m0s
report of 03:00:00: attempt 1 of 3
report of 03:00:00: done in 1m0s
`, w.printed())
	})
}

// send sends the tick of an hour.
func (w *world) send(t *testing.T, hour int) {
	t.Helper()
	m, err := ticks.Message(tick{"report", time.Date(2000, 1, 1, hour, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	_, err = w.client.SendMessages(t.Context(), "cron_jobs", []sequin.Message{m})
	require.NoError(t, err)
}

// A job of an hour and a half keeps its lease of 30 s, and another process does other ticks meanwhile.
func TestAJobMayTakeMuchLongerThanItsLease(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		w.send(t, 1)
		stop := w.start(t, takes(90*time.Minute))
		synctest.Wait()
		w.send(t, 2)
		stopOther := w.start(t, takes(time.Minute))
		time.Sleep(2 * time.Hour)
		stop()
		stopOther()
		require.Equal(t, `report of 01:00:00: attempt 1 of 3
report of 02:00:00: attempt 1 of 3
report of 02:00:00: done in 1m0s
report of 01:00:00: done in 1h30m0s
`, w.printed())
	})
}

func TestAttemptsAreCounted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		w.send(t, 1)
		stop := w.start(t, func(context.Context) error { return errors.New("no disk") })
		time.Sleep(time.Hour)
		stop()
		require.Equal(t, `report of 01:00:00: attempt 1 of 3
report of 01:00:00: failed: no disk
report of 01:00:00: attempt 2 of 3
report of 01:00:00: failed: no disk
report of 01:00:00: attempt 3 of 3
report of 01:00:00: failed: no disk
`, w.printed())
		failed, err := w.client.ListMessages(t.Context(), "cron_failed", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, failed, 1)
		require.Contains(t, failed[0].Data, "no disk")
	})
}

// A stop interrupts the job after the grace. That is no attempt: the next process begins with the first one.
func TestAStopGivesTheJobToAnotherProcess(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		w.send(t, 1)
		stop := w.start(t, takes(time.Hour))
		time.Sleep(10 * time.Minute)
		began := time.Now()
		stop()
		require.Equal(t, hourly.grace, time.Since(began))
		stop = w.start(t, takes(time.Hour))
		time.Sleep(2 * time.Hour)
		stop()
		require.Equal(t, `report of 01:00:00: attempt 1 of 3
report of 01:00:00: failed: context canceled
report of 01:00:00: attempt 1 of 3
report of 01:00:00: done in 1h0m0s
`, w.printed())
	})
}

func TestTheCommandIsRun(t *testing.T) {
	t.Setenv("CRON_WORKER_COMMAND", "1")
	self, err := os.Executable()
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, execute([]string{self, "once"}, &out)(t.Context()))
	require.Equal(t, "it runs: once\n", out.String())
	require.ErrorContains(t, execute([]string{self, "once", "again"}, &out)(t.Context()), "exit status 1")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(sequin.ErrLeaseExpired)
	require.ErrorIs(t, execute([]string{self, "once"}, &out)(ended), sequin.ErrLeaseExpired)
}

func TestAServerThatCannotExtendLeasesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{srv: sequintest.NewServer(t, sequintest.Config{WithoutExtensions: []string{"extend"}})}
		require.ErrorIs(t, prepare(t.Context(), w.newClient(t), hourly), errShortJobs)
		short := hourly
		short.limit, short.lease = time.Minute, time.Hour
		require.NoError(t, prepare(t.Context(), w.newClient(t), short))
	})
}
