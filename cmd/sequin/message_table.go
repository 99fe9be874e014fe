package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// dataWidth is how much of a message's data, and of its headers, a table shows.
const dataWidth = 80

// messageTable prints messages, one a row. cells are those of a row before the headers and the data.
func messageTable(s *session, columns []string, messages []sequin.StoredMessage, cells func(i int) []string, empty string) error {
	withHeaders := slices.ContainsFunc(messages, func(m sequin.StoredMessage) bool { return len(m.Headers) > 0 })
	if withHeaders {
		columns = append(columns, "HEADERS")
	}
	var rows [][]string
	for i, m := range messages {
		row := cells(i)
		if withHeaders {
			row = append(row, cli.Cut(headerText(m.Headers), dataWidth))
		}
		rows = append(rows, append(row, cli.Cut(m.Data, dataWidth)))
	}
	return cli.Table(s.out, append(columns, "DATA"), rows, empty)
}

// headerText returns headers as --header takes them, in the order of their names.
func headerText(headers map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		all = append(all, name+"="+headers[name])
	}
	return strings.Join(all, " ")
}
