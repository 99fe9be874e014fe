package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func data(records []record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.data)
	}
	return all
}

func TestLinesAreUnchangedData(t *testing.T) {
	records, bad := readAll(t, "lines", "one\r\n\n three \nlast")
	require.Equal(t, []string{"one", "", " three ", "last"}, data(records))
	require.Empty(t, bad)
	_, err := records[0].field("a")
	require.ErrorContains(t, err, "{line} and {uuid}")
}

func TestNDJSONKeepsTheLineAndSkipsBadOnes(t *testing.T) {
	records, bad := readAll(t, "ndjson", "{\"b\": 1,\"a\":2}\n\n[1]\nnull\n{\"broken\n  {\"c\":3}  \n")
	require.Equal(t, []string{`{"b": 1,"a":2}`, `{"c":3}`}, data(records))
	require.Len(t, bad, 3)
}

func TestCSVRowsAreObjectsInTheOrderOfTheColumns(t *testing.T) {
	records, bad := readAll(t, "csv", "\ufeffid,name\n1,\"Ann \"\"A\"\", <b>\"\nshort\n2,Bob\n")
	require.Equal(t, []string{`{"id":"1","name":"Ann \"A\", <b>"}`, `{"id":"2","name":"Bob"}`}, data(records))
	require.Equal(t, []string{"not a record: 1 fields, the first row names 2"}, bad)
	id, err := records[1].field("id")
	require.NoError(t, err)
	require.Equal(t, "2", id)
	_, err = records[1].field("price")
	require.ErrorContains(t, err, `no column "price"`)
	records, _ = readAll(t, "csv", "")
	require.Empty(t, records)
}
