package seglog

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
)

// What decode takes for a record is, byte for byte, what appendRecord makes.
func FuzzDecode(f *testing.F) {
	const s = seed(7)
	pos := position(3, 4096)
	for _, body := range [][]byte{nil, []byte("body"), bytes.Repeat([]byte{1}, 1000)} {
		h := header{pos: pos, synced: position(2, 64), opening: 4, stream: 5, kind: 6}
		f.Add(appendRecord(nil, h, body, s.checksum(body)))
	}
	f.Add(sealBody(9, 1<<20))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := s.decode(b, pos)
		if err != nil {
			require.True(t, err == errBad || err == errCut)
			require.Equal(t, err == errCut, fr.size > int64(len(b)))
			return
		}
		require.Equal(t, appendRecord(nil, fr.header, fr.body, s.checksum(fr.body)), b[:fr.size])
		require.Equal(t, fr.size, fr.record().Size())
		_, elsewhere := s.decode(b, pos+1)
		require.ErrorIs(t, elsewhere, errBad)
		_, otherStore := (s + 1).decode(b, pos)
		require.ErrorIs(t, otherStore, errBad)
	})
}

// Headers that are taken are what encode makes, but for the bytes that no field uses.
func FuzzHeaders(f *testing.F) {
	segment := segmentHead{number: 2, opening: 3, capacity: 4, previous: 1, end: 64, chain: 5, store: [16]byte{6}}
	f.Add(segment.encode())
	f.Add(snapshotHead{from: 1, until: 2, size: 3, opening: 4, store: [16]byte{5}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeSegmentHead(b); err == nil {
			again, err := decodeSegmentHead(h.encode())
			require.NoError(t, err)
			h.crc = again.crc
			require.Equal(t, h, again)
		}
		if h, err := decodeSnapshotHead(b); err == nil {
			require.Equal(t, b[:snapshotHeader], h.encode())
		}
	})
}

// A log with any bytes in its last segment and behind it is opened, or refused as damaged.
func FuzzOpen(f *testing.F) {
	fs := crashfs.New()
	l, _ := started(f, everySecond(small(fs)))
	for n := range uint32(8) {
		require.NoError(f, l.WaitWritten(f.Context(), appendNumber(l, n)))
	}
	f.Cleanup(func() { l.Close() })
	f.Add(uint16(100), []byte("x"))
	f.Add(uint16(segmentHeader), make([]byte, 200))
	f.Add(uint16(3), []byte{1})
	f.Fuzz(func(t *testing.T, at uint16, b []byte) {
		broken := fs.Crash(1, seeded(0))
		broken.Edit(filepath.Join(testDir, segmentName(1)), func(have []byte) []byte {
			at := int(at) % len(have)
			copy(have[at:], b)
			return have
		})
		l, err := Open(testDir, small(broken))
		if err != nil {
			return
		}
		all, err := replayed(l)
		require.NoError(t, err)
		for i, n := range all {
			require.EqualValues(t, i, n)
		}
		require.NoError(t, l.Close())
	})
}
