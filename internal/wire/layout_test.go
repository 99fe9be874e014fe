package wire_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/wire"
)

// metadatas are metadata of changes of one sink, and of other ones, whose values end in all ways.
var metadatas = func() (all []string) {
	const usual = `{"consumer":{"id":"i","name":"s","annotations":{}},"table_name":"orders","commit_idx":IDX,"commit_lsn":LSN,"commit_timestamp":TIME,` +
		`"idempotency_key":IDEM,"table_schema":"public","transaction_annotations":null,"record_pks":PKS,"database_name":"shop"}`
	for _, values := range [][5]string{
		{`0`, `77124768`, `"2026-11-23T13:21:39.505010Z"`, `"Nz=="`, `["1"]`},
		{`12`, `77124769`, `"2026-11-23T13:21:40.000000Z"`, `"Nz8="`, `["23","b"]`},
		{`1`, `0`, `1795440099505010`, `""`, `["a.b",""]`},
		{`01`, `7`, `""`, `""`, `["1"]`}, {`1x`, `7`, `""`, `""`, `["1"]`}, {`-1`, `-7`, `null`, `null`, `null`}, {`1.5`, `7`, `""`, `""`, `[]`},
		{`1`, `9223372036854775807`, `"x"`, `"\u0061"`, `[1,"é", null]`}, {`1`, `9223372036854775808`, `"x"`, `""`, `["1"]`},
		{`1`, `7`, `"x`, `""`, `["1"]`}, {`1`, `7`, `""`, `"`, `["1"]`}, {`1`, `7`, `""`, `"a"b"`, `["1"]`}, {`1`, `7`, `""`, `5`, `["1"]`},
		{`1`, `7`, `""`, `""`, `["1",]`}, {`1`, `7`, `""`, `""`, `["1"`}, {`1`, `7`, `""`, `""`, `["1""2"]`}, {`1`, `7`, `""`, `""`, `[`}, {`1`, `7`, `""`, `""`, `"1"`},
		{`1`, `7`, `""`, `""`, "[\"a\x01\"]"}, {``, `7`, `""`, `""`, `["1"]`}, {`1`, `7`, `""`, `""`, `["1","2"]`},
	} {
		all = append(all, strings.NewReplacer("IDX", values[0], "LSN", values[1], "TIME", values[2], "IDEM", values[3], "PKS", values[4]).Replace(usual))
	}
	first := all[0]
	return append(all, `{}`, `null`, `{"table_name":"orders"}`, `{"record_pks":["2"]}`, `[]`, strings.Replace(first, `"s"`, `"other"`, 1), strings.Replace(first, "public", "other", 1),
		strings.Replace(first, "}", ` }`, 1), strings.Replace(first, `"commit_idx":0`, `"commit_idx":0,"commit_idx":1`, 1), strings.Replace(first, "commit_lsn", "new", 1),
		strings.Replace(first, `"shop"`, `"`+strings.Repeat("x", 5000)+`"`, 1), strings.TrimSuffix(first, "}"), first+"}", strings.Replace(first, `"orders"`, `null`, 1))
}()

// requireSameKey requires that a message is decoded as it is alone when it follows another one.
func requireSameKey(t *testing.T, before, metadata string) {
	t.Helper()
	list := func(metadatas ...string) (last wire.Change, err error) {
		var messages []string
		for _, m := range metadatas {
			messages = append(messages, `{"data":{"record":{},"metadata":`+m+`},"ack_id":"x"}`)
		}
		var d wire.ChangeDecoder
		all, err := changes(&d, `{"data":[`+strings.Join(messages, ",")+`]}`)
		if err != nil {
			return last, err
		}
		return all[len(all)-1], nil
	}
	if _, err := list(before); err != nil {
		return
	}
	alone, errAlone := list(metadata)
	behind, errBehind := list(before, metadata)
	require.Equal(t, errAlone == nil, errBehind == nil, "%s\nbehind\n%s: %v", metadata, before, errBehind)
	if errAlone == nil {
		require.Equal(t, alone, behind, "%s\nbehind\n%s", metadata, before)
	}
}

// requireSameChange does the same for the decoding of a change.
func requireSameChange(t *testing.T, before, metadata string) {
	t.Helper()
	var row any
	decode := func(p *wire.ChangePlan, m string) (wire.ChangeData, error) {
		c, _, err := p.Decode(`{"record":{},"metadata":`+m+`,"action":"read"}`, reflect.ValueOf(&row).Elem(), new(wire.ChangeRoom))
		return c, err
	}
	used := new(wire.ChangePlan)
	_, _ = decode(used, before)
	alone, errAlone := decode(new(wire.ChangePlan), metadata)
	behind, errBehind := decode(used, metadata)
	require.Equal(t, errAlone == nil, errBehind == nil, "%s\nbehind\n%s: %v", metadata, before, errBehind)
	require.Equal(t, alone, behind, "%s\nbehind\n%s", metadata, before)
}

func TestMetadataIsReadAlikeWhateverCameBefore(t *testing.T) {
	for _, before := range metadatas {
		for _, metadata := range metadatas {
			requireSameKey(t, before, metadata)
			requireSameChange(t, before, metadata)
		}
	}
}

func FuzzMetadataBehindOther(f *testing.F) {
	for i, m := range metadatas {
		f.Add(metadatas[0], m)
		f.Add(m, metadatas[(i+1)%len(metadatas)])
	}
	f.Fuzz(func(t *testing.T, before, metadata string) {
		requireSameKey(t, before, metadata)
		requireSameChange(t, before, metadata)
	})
}

func TestASecondMetadataReplacesTheFirst(t *testing.T) {
	const twice = `{"record":{},"metadata":{"table_name":"a","commit_lsn":1},"metadata":{"table_name":"b","database_name":"d"},"action":"read"}`
	c, err := decodeChange(twice)
	require.NoError(t, err)
	require.Equal(t, wire.ChangeMetadata{TableName: "b", DatabaseName: "d"}, c.ChangeMetadata)
}

func TestTimesThatDoNotExistAreNotRead(t *testing.T) {
	for _, text := range []string{
		"2024-02-29T00:00:00", "2023-02-29T00:00:00", "2100-02-29T00:00:00", "2024-02-30T00:00:00", "2024-04-31T10:00:00", "2024-12-31T23:59:59", "0000-01-01T00:00:00",
		"2024-00-01T00:00:00", "2024-13-01T00:00:00", "2024-01-00T00:00:00", "2024-01-32T00:00:00", "2024-01-01T24:00:00", "2024-01-01T00:60:00", "2024-01-01T00:00:60",
		"2024_01-01T00:00:00", "2024-01-01 00:00:00", "2024-01-01T00.00:00", "x024-01-01T00:00:00", "2x24-01-01T00:00:00", "2024-x1-01T00:00:00", "2024-01-01T00:00:0x",
	} {
		text += ".123456Z"
		want, _ := time.Parse(time.RFC3339Nano, text)
		require.Equal(t, want.IsZero(), wire.ParseTime([]byte(`"`+text+`"`)).IsZero(), text)
		require.True(t, want.Equal(wire.ParseTime([]byte(fmt.Sprintf("%q", text)))), text)
	}
}
