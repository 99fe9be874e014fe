package durable

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// The bodies of records as they were written before messages had headers: a send of a=1 and b=22, of a stream that appends and of
// one with one message per key, and a copy of both.
const (
	oldSend  = "00" + "80a8d6b907" + "00" + "02" + "02" + "04" + "0161" + "0131" + "0162" + "023232"
	oldKeyed = "04" + "80a8d6b907" + "00" + "02" + "02" + "04" + "00" + "00" + "0161" + "0131" + "0162" + "023232"
	oldMoved = "02" + "02" + "05" + "80a8d6b907" + "00" + "0161" + "0131" + "02" + "05" + "80a8d6b907" + "00" + "0162" + "023232"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

// messagesIn returns the messages of a record.
func messagesIn(t testing.TB, kind byte, body []byte) (all []store.Message) {
	t.Helper()
	require.NoError(t, eachMessage(seglog.Record{Kind: kind, Body: body}, func(m *rawMessage) bool {
		all = append(all, m.message())
		return true
	}))
	return all
}

// recordsOf returns the kinds of the records that hold messages, by the log.
func (f *fixture) recordsOf() (kinds []byte) {
	f.Helper()
	require.NoError(f, f.st.log.Sync(f.Context()))
	for _, segment := range f.st.log.Segments() {
		for pos := segment.First; pos < segment.End; {
			end, err := f.st.log.NewReader().Run(pos, 1<<20, func(rec seglog.Record) bool {
				if hasMessages(rec.Kind) {
					kinds = append(kinds, rec.Kind)
				}
				return true
			})
			require.NoError(f, err)
			if end == pos {
				break
			}
			pos = end
		}
	}
	return kinds
}

// TestRecordsWithoutHeadersAreAsBeforeThereWereHeaders holds that a program without headers can read them, and that this one reads
// those of such a program.
func TestRecordsWithoutHeadersAreAsBeforeThereWereHeaders(t *testing.T) {
	const at = 1_000_000_000
	want := []store.Message{{Key: "a", Data: "1", Seq: 1, InsertedAt: at, UpdatedAt: at}, {Key: "b", Data: "22", Seq: 2, InsertedAt: at, UpdatedAt: at}}
	for text, inserted := range map[string][]int64{oldSend: nil, oldKeyed: {0, 0}} {
		r := sendRecord{at: at, now: at * 1000, first: 1, published: 2, count: 2, inserted: inserted}
		body := r.appendHead(nil)
		for i := range want {
			body = appendMessage(body, &want[i], r.headers)
		}
		require.Equal(t, text, hex.EncodeToString(body))
		require.Equal(t, kindSend, r.kind())
		require.Equal(t, want, messagesIn(t, kindSend, body))
	}
	body := binary.AppendUint(nil, 2)
	for i := range want {
		m := &rawMessage{seq: want[i].Seq, insertedAt: at, updatedAt: at, key: []byte(want[i].Key), data: []byte(want[i].Data), pos: 5}
		body = appendMoved(body, m, int64(i), kindMoved)
	}
	require.Equal(t, oldMoved, hex.EncodeToString(body))
	require.Equal(t, want, messagesIn(t, kindMoved, body))
	require.EqualValues(t, 7, kindSend, "numbers are on disk")
	require.EqualValues(t, 11, kindMoved)
	require.EqualValues(t, 17, kindSendHeaders)
	require.EqualValues(t, 18, kindMovedHeaders)
	require.EqualValues(t, store.HashBody([]byte("22")), sum("b", "22", "").data, "a message is found unmodified by it")
}

// A record says it of all its messages.
func TestARecordSaysWhetherSomethingIsEscapedInData(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		inBubble(t, Options{}, store.StreamOptions{OneMessagePerKey: keyed}, func(f *fixture) {
			for _, batch := range [][]store.Message{{{Key: "a", Verbatim: true}, {Key: "b", Verbatim: true}}, {{Key: "c", Verbatim: true}, {Key: "d"}}} {
				_, err := f.stream.Send(f.Context(), store.Once{}, batch)
				require.NoError(f, err)
			}
			for range 2 {
				list, err := f.stream.List(f.Context(), store.ListQuery{Limit: 99})
				require.NoError(f, err)
				require.Len(f, list, 4)
				for _, m := range list {
					require.Equal(f, m.Key < "c", m.Verbatim, m.Key)
				}
				f.reopen(true)
			}
		})
	}
}

// TestADirectoryFromBeforeHeadersIsOpened has records of such a program, and sends messages with and without headers behind them.
func TestADirectoryFromBeforeHeadersIsOpened(t *testing.T) {
	for text, keyed := range map[string]bool{oldSend: false, oldKeyed: true} {
		inBubble(t, Options{}, store.StreamOptions{OneMessagePerKey: keyed}, func(f *fixture) {
			sid := f.stream.(*streamHandle).stream().sid
			f.st.append(kindSend, sid, unhex(t, text))
			kill(f, f.st) // without a snapshot, which would not have the record
			f.st = open(f, "dir", f.o)
			f.find()
			shown := func() (all []string) {
				list, err := f.stream.List(f.Context(), store.ListQuery{Limit: 99})
				require.NoError(f, err)
				for _, m := range list {
					all = append(all, fmt.Sprint(m.Seq, " ", m.Key, "=", m.Data, " ", m.Headers.Map()))
				}
				return all
			}
			require.Equal(f, []string{"1 a=1 map[]", "2 b=22 map[]"}, shown())
			send := func(h headers.Packed) int {
				n, err := f.stream.Send(f.Context(), store.Once{}, []store.Message{{Key: "b", Data: "22", Headers: h}})
				require.NoError(f, err)
				return n
			}
			want := []string{"1 a=1 map[]", "2 b=22 map[]", "3 b=22 map[]", "4 b=22 map[n:1]"}
			kinds := []byte{kindSend, kindSend, kindSendHeaders}
			published := 1
			if keyed {
				want, kinds, published = []string{"1 a=1 map[]", "3 b=22 map[n:1]"}, []byte{kindSend, kindSendHeaders}, 0
			}
			require.Equal(f, published, send(""))
			require.Equal(f, 1, send("n\x001\x00"))
			for range 2 {
				require.Equal(f, want, shown())
				require.Equal(f, kinds, f.recordsOf(), "a record without headers is as before")
				f.reopen(true)
			}
		})
	}
}

// TestHeadersSurviveCleaningBackupAndRepair copies messages, some of which have headers, from segment to segment.
func TestHeadersSurviveCleaningBackupAndRepair(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		inBubble(t, tidying, store.StreamOptions{OneMessagePerKey: keyed}, func(f *fixture) {
			hot, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "hot", RetainUpTo: 1})
			require.NoError(f, err)
			var want []store.Message
			for i := range 100 {
				m := store.Message{Key: fmt.Sprint("k", i), Data: strings.Repeat("x", i%7)}
				if i%3 > 0 {
					m.Headers = headers.Packed("n\x00" + strings.Repeat("v", i) + "\x00")
				}
				want = append(want, m)
				_, err := f.stream.Send(f.Context(), store.Once{}, []store.Message{m})
				require.NoError(f, err)
				for range 20 {
					f.sendData(hot, "hot", strings.Repeat("y", 100))
				}
			}
			time.Sleep(10 * lookEvery)
			requireSame := func() {
				f.Helper()
				all, err := f.stream.List(f.Context(), store.ListQuery{Limit: 999})
				require.NoError(f, err)
				got := make([]store.Message, len(all))
				for i, m := range all {
					got[i] = store.Message{Key: m.Key, Data: m.Data, Headers: m.Headers}
				}
				require.Equal(f, want, got)
			}
			requireSame()
			kinds := f.recordsOf()
			require.True(f, slices.Contains(kinds, kindMovedHeaders), "%v", kinds)
			report, err := backUp(f.Context(), "dir", "copy", f.fs)
			require.NoError(f, err)
			require.Equal(f, 100, report.Streams[slices.IndexFunc(report.Streams, func(s StreamReport) bool { return s.Name == "s" })].Messages)
			require.NoError(f, f.st.Close())
			report, err = check(f.Context(), "dir", f.fs)
			require.NoError(f, err)
			require.Empty(f, report.Faults)
			_, err = repair(f.Context(), "dir", "repaired", f.fs)
			require.NoError(f, err)
			for _, dir := range []string{"copy", "repaired", "dir"} {
				f.st = open(f, dir, f.o)
				f.find()
				requireSame()
				require.NoError(f, f.st.Close())
			}
		})
	}
}

// FuzzRecordsOfMessages holds that any body of a record with messages is read or refused, and that what is read is within the body.
func FuzzRecordsOfMessages(f *testing.F) {
	for _, text := range []string{oldSend, oldKeyed} {
		f.Add(kindSend, unhex(f, text))
		f.Add(kindSendHeaders, unhex(f, text+"00"))
	}
	f.Add(kindMoved, unhex(f, oldMoved))
	f.Add(kindSendHeaders, unhex(f, "00"+"80a8d6b907"+"00"+"02"+"01"+"04"+"0161"+"0131"+"046e003100"))
	f.Add(kindMovedHeaders, unhex(f, "01"+"02"+"05"+"80a8d6b907"+"00"+"0161"+"0131"+"046e003100"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if !hasMessages(kind) {
			return
		}
		size := int64(0)
		err := eachMessage(seglog.Record{Kind: kind, Body: body}, func(m *rawMessage) bool {
			size += m.size()
			copied := m.message()
			require.Equal(t, m.size(), copied.Size())
			require.True(t, withHeaders(kind) || copied.Headers == "")
			return true
		})
		require.LessOrEqual(t, size, int64(len(body)))
		if err != nil {
			require.ErrorIs(t, err, store.ErrDamaged)
		}
	})
}
