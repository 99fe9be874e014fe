package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/command"
)

func TestTheDefaultNameIsOneThatAServerTakes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		for args, name := range map[string]string{
			"-- ./backup.sh -v":            "backup-sh",
			"-- /bin/true":                 "true",
			"-- .hidden":                   "hidden",
			"-- a*b_c":                     "a-b_c",
			"-name nightly -- ./backup.sh": "nightly",
			"-name " + strings.Repeat("n", maxName) + " sh": strings.Repeat("n", maxName),
		} {
			o, err := parse(strings.Fields(args), t.Output())
			require.NoError(t, err, args)
			require.Equal(t, name, o.name, args)
			require.NoError(t, prepare(t.Context(), w.client, o), args)
			m, err := ticks.Message(tick{o.name, time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)})
			require.NoError(t, err)
			_, err = w.client.SendMessages(t.Context(), "cron_jobs", []sequin.Message{m})
			require.NoError(t, err)
		}
	})
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for args, says := range map[string]string{
		"":                            "a command is needed",
		"-- ..":                       "set -name",
		"-name a.b -- true":           "-name is",
		"-name a* -- true":            "-name is",
		"-name \u00e9t\u00e9 -- true": "-name is",
		"-name " + strings.Repeat("n", maxName+1) + " -- true": "-name is",
		"-every 999ms -- true":                                 "-every is 999ms",
		"-limit 0 -- true":                                     "-limit is 0s",
		"-limit -1s -- true":                                   "-limit is -1s",
		"-lease 1ms -- true":                                   "-lease is 1ms, must be at least 100ms",
		"-lease 0 -- true":                                     "-lease is 0s",
		"-lease 100.5ms -- true":                               "-lease is 100.5ms",
		"-attempts 0 -- true":                                  "-attempts is 0",
		"-attempts -1 -- true":                                 "-attempts is -1",
		"-grace 0 -- true":                                     "-grace is 0s",
		"-grace -1s -- true":                                   "-grace is -1s",
	} {
		var out strings.Builder
		_, err := parse(strings.Fields(args), &out)
		require.Equal(t, 2, command.ExitCode(err), args)
		require.Contains(t, out.String(), "cron-worker: ", args)
		require.Contains(t, out.String(), says, args)
	}
}

func TestTheShortestLeaseWorks(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		o := hourly
		o.lease = minLease
		require.NoError(t, prepare(t.Context(), w.client, o))
		w.send(t, 1)
		stop := w.start(t, takes(time.Minute))
		time.Sleep(time.Hour)
		stop()
		require.Contains(t, w.printed(), "report of 01:00:00: done in 1m0s\n")
	})
}

func TestTheLeaseOfAJobCanBeChanged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		for _, lease := range []time.Duration{time.Minute, time.Millisecond, hourly.lease} {
			o := hourly
			o.lease = lease
			require.NoError(t, prepare(t.Context(), w.client, o), lease)
			k, err := w.client.GetConsumer(t.Context(), "cron_jobs", o.name)
			require.NoError(t, err)
			require.Equal(t, lease, k.AckWait)
		}
	})
}

func TestTheConsumerOfAnotherProgramIsLeftAlone(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *world) {
		_, err := w.client.CreateConsumer(t.Context(), "cron_jobs", "audit", ">", sequin.ConsumerOptions{AckWait: time.Hour})
		require.NoError(t, err)
		o := hourly
		o.name = "audit"
		require.ErrorIs(t, prepare(t.Context(), w.client, o), sequin.ErrMismatch)
		k, err := w.client.GetConsumer(t.Context(), "cron_jobs", "audit")
		require.NoError(t, err)
		require.Equal(t, time.Hour, k.AckWait)
	})
}
