package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// entry is a line of somebody's account.
type entry struct {
	account, what, id string
	at                int64
}

func TestTheBooksAddUpOrTellWhy(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []entry
		wrong   []string
	}{
		{"all is well", []entry{
			{"producer.p", sent, "1", 1}, {"worker.a.w", worked, "1", 2}, {"worker.a.w", acked, "1", 3}, {"worker.b.w", worked, "1", 4},
		}, nil},
		{"worked on before the producer was told, and again before the ack", []entry{
			{"worker.a.w", worked, "1", 1}, {"worker.b.w", worked, "1", 1}, {"producer.p", sent, "1", 2}, {"worker.a.v", worked, "1", 3}, {"worker.a.v", acked, "1", 4},
		}, nil},
		{"what was not confirmed may be lost", []entry{{"worker.a.w", worked, "1", 1}}, nil},
		{"lost for one consumer", []entry{{"producer.p", sent, "1", 1}, {"worker.a.w", worked, "1", 2}},
			[]string{"lost: 1 was sent, and no worker of b got it"}},
		{"handed out after the ack, to another worker", []entry{
			{"worker.a.w", worked, "1", 1}, {"worker.a.w", acked, "1", 2}, {"worker.a.v", worked, "1", 3}, {"worker.b.w", worked, "1", 4},
		}, []string{"twice: 1 was acked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, e := range tt.entries {
				a, err := openAccount(filepath.Join(dir, e.account))
				require.NoError(t, err)
				require.NoError(t, a.noteAt(e.what, e.id, time.Unix(0, e.at)))
				require.NoError(t, a.file.Close())
			}
			b, err := readBooks(dir, []string{"a", "b"})
			require.NoError(t, err)
			if err = b.add(); tt.wrong == nil {
				require.NoError(t, err)
			}
			for _, text := range tt.wrong {
				require.ErrorContains(t, err, text)
			}
		})
	}
}

func TestABrokenAccountIsNoAccount(t *testing.T) {
	dir := t.TempDir()
	a, err := openAccount(filepath.Join(dir, "producer.p"))
	require.NoError(t, err)
	_, err = a.file.WriteString("sent soon 1\n")
	require.NoError(t, err)
	require.NoError(t, a.file.Close())
	_, err = readBooks(dir, nil)
	require.ErrorContains(t, err, "sent soon 1")
}
