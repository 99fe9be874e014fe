package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// entry is a line of an event log.
type entry struct {
	log, what, id string
	at            int64
}

func TestCheckFindsLostAndRepeatedMessages(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []entry
		wrong   []string
	}{
		{"every message is received and acked", []entry{
			{"producer.p", sent, "1", 1}, {"worker.a.w", received, "1", 2}, {"worker.a.w", acked, "1", 3}, {"worker.b.w", received, "1", 4},
		}, nil},
		{"received before it is confirmed, and again before the ack", []entry{
			{"worker.a.w", received, "1", 1}, {"worker.b.w", received, "1", 1}, {"producer.p", sent, "1", 2}, {"worker.a.v", received, "1", 3}, {"worker.a.v", acked, "1", 4},
		}, nil},
		{"a message that is not confirmed may be lost", []entry{{"worker.a.w", received, "1", 1}}, nil},
		{"lost for one consumer", []entry{{"producer.p", sent, "1", 1}, {"worker.a.w", received, "1", 2}},
			[]string{"lost: 1 was sent, and no worker of b received it"}},
		{"received after the ack, by another worker", []entry{
			{"worker.a.w", received, "1", 1}, {"worker.a.w", acked, "1", 2}, {"worker.a.v", received, "1", 3}, {"worker.b.w", received, "1", 4},
		}, []string{"twice: 1 was acked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, e := range tt.entries {
				a, err := openEventLog(filepath.Join(dir, e.log))
				require.NoError(t, err)
				require.NoError(t, a.noteAt(e.what, e.id, time.Unix(0, e.at)))
				require.NoError(t, a.file.Close())
			}
			b, err := readEvents(dir, []string{"a", "b"})
			require.NoError(t, err)
			if err = b.check(); tt.wrong == nil {
				require.NoError(t, err)
			}
			for _, text := range tt.wrong {
				require.ErrorContains(t, err, text)
			}
		})
	}
}

func TestReadEventsFailsOnAnInvalidLine(t *testing.T) {
	dir := t.TempDir()
	a, err := openEventLog(filepath.Join(dir, "producer.p"))
	require.NoError(t, err)
	_, err = a.file.WriteString("sent soon 1\n")
	require.NoError(t, err)
	require.NoError(t, a.file.Close())
	_, err = readEvents(dir, nil)
	require.ErrorContains(t, err, "sent soon 1")
}
