package feed

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACheckpointBelongsToOneSource(t *testing.T) {
	dir, file := t.TempDir(), strings.NewReader("one\ntwo\n")
	source := Source{File: "/in", URL: "http://a", Stream: "orders", Template: "k"}
	saved, err := New(dir, source, 7)
	require.NoError(t, err)
	at := Position{Offset: 4, Line: 1, Sent: 1}
	saved.Since = time.Now()
	require.NoError(t, saved.Save(file, at))

	same, err := Resume(dir, source, file, 1000)
	require.NoError(t, err)
	require.Equal(t, saved.ID, same.ID)
	require.Equal(t, at, same.At)
	require.Equal(t, 7, same.Lines, "the batches stay the same")
	for _, other := range []Source{
		{"/other", "http://a", "orders", "k"}, {"/in", "http://b", "orders", "k"}, {"/in", "http://a", "prices", "k"}, {"/in", "http://a", "orders", ""},
	} {
		fresh, err := Resume(dir, other, file, 1000)
		require.NoError(t, err)
		require.Zero(t, fresh.At)
		require.Equal(t, 1000, fresh.Lines)
		require.NotEqual(t, saved.ID, fresh.ID)
	}
}

func TestACheckpointThatIsGoneOrDamaged(t *testing.T) {
	dir, file, source := t.TempDir(), strings.NewReader(""), Source{File: "/in"}
	c, err := New(dir, source, 1)
	require.NoError(t, err)
	require.NoError(t, c.Save(file, Position{}))
	require.NoError(t, os.WriteFile(c.path, []byte("{"), 0o600))
	_, err = Resume(dir, source, file, 1)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, c.path)
	require.NoError(t, c.Remove())
	require.NoError(t, c.Remove(), "another process may have removed it")
	_, err = Resume(dir, source, file, 1)
	require.NoError(t, err)
}

// The first and the last 64 KiB before the position are compared.
func TestAChangeOfTheFileIsNoticed(t *testing.T) {
	dir, source := t.TempDir(), Source{File: "/in"}
	text := strings.Repeat("x", 4*probe)
	c, err := New(dir, source, 1)
	require.NoError(t, err)
	require.NoError(t, c.Save(strings.NewReader(text), Position{Offset: 3 * probe}))
	for at, want := range map[int]error{0: ErrChanged, probe - 1: ErrChanged, 2 * probe: ErrChanged, 3*probe - 1: ErrChanged, 3 * probe: nil} {
		_, err := Resume(dir, source, strings.NewReader(text[:at]+"y"+text[at+1:]), 1)
		require.Equal(t, want, err, at)
	}
	_, err = Resume(dir, source, strings.NewReader(text[:3*probe-1]), 1)
	require.Equal(t, ErrChanged, err, "the file is shorter")
}
