package wire

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/row"
)

// changeReader reads one ChangeData.
type changeReader struct {
	scan  jscan.Scanner
	text  string
	row   row.Decoder
	known *knownMetadata // or nil
	room  *ChangeRoom
	c     ChangeData
	json  metadataJSON
	found *layout // of the metadata, if it is not the known one
}

// copyJSON copies the JSON values into the room, or one allocation. What is appended to one does not overwrite another.
func (r *changeReader) copyJSON() {
	all := r.room.json[:0]
	if size := len(r.json.annotations) + len(r.json.enrichment) + len(r.json.sink); size > cap(all) {
		all = make([]byte, 0, size)
	}
	all, r.c.TransactionAnnotations = copyValue(all, r.json.annotations)
	all, r.c.Enrichment = copyValue(all, r.json.enrichment)
	_, r.c.SinkAnnotations = copyValue(all, r.json.sink)
}

// copyValue appends a JSON value and returns the copy, which is nil for no value.
func copyValue(all []byte, value string) ([]byte, json.RawMessage) {
	if value == "" {
		return all, nil
	}
	from := len(all)
	all = append(all, value...)
	return all, all[from:len(all):len(all)]
}

// members reads the object. Its members are first looked for in the order in which Sequin writes them, which takes a fifth of
// the time, and then in any order.
func (r *changeReader) members() {
	s, c := &r.scan, &r.c
	s.Object()
	if s.Member(`"record":`) {
		r.record()
	}
	if s.Member(`"metadata":`) {
		r.metadata()
		if end := closeChange(s); end != "" {
			c.Action = end
			return
		}
	}
	if s.Member(`"action":`) {
		c.Action = r.string()
	}
	if s.Member(`"changes":`) {
		c.Changes = r.changes()
	}
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "record":
			r.record()
		case "metadata":
			r.metadata()
		case "action":
			c.Action = r.string()
		case "changes":
			c.Changes = r.changes()
		default:
			s.Skip()
		}
	}
}

// metadata reads the object "metadata". A second one replaces the first.
func (r *changeReader) metadata() {
	s := &r.scan
	r.c.ChangeMetadata, r.json = ChangeMetadata{}, metadataJSON{}
	if s.Null() {
		return
	}
	if r.known != nil {
		base := s.Mark()
		if values, n, ok := r.known.layout.match(s.Rest()); ok {
			r.knownMetadata(&values, base, n)
			return
		}
	}
	r.otherMetadata()
}

// knownMetadata takes what is known, and the values of this change. The metadata begins at base and has n bytes.
func (r *changeReader) knownMetadata(values *[varyings]span, base, n int) {
	c, text := &r.c.ChangeMetadata, r.text[base:base+n]
	*c, r.json = r.known.common, r.known.json
	c.CommitIdx = int(values[commitIdx].number(text))
	c.CommitLSN = values[commitLSN].number(text)
	c.IdempotencyKey = values[idempotencyKey].quoted(text)
	if at := values[commitTimestamp]; at.to > at.from {
		if text[at.from] == '"' {
			c.CommitTimestamp = readTime(at.quoted(text))
		} else {
			c.CommitTimestamp = time.UnixMicro(at.number(text)).UTC()
		}
	}
	pks := values[recordPKs]
	if pks.to > pks.from {
		c.RecordPKs = r.room.pks[:0]
	}
	rest := r.scan.Rest()
	for value, next := pks.first(rest); next > 0; value, next = pks.next(rest, next) {
		c.RecordPKs = append(c.RecordPKs, text[value.from:value.to])
	}
	r.scan.Consume(n)
}

// otherMetadata reads metadata that is not known.
func (r *changeReader) otherMetadata() {
	s, c := &r.scan, &r.c.ChangeMetadata
	base := s.Mark()
	r.found = new(layout)
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		mark, what := s.Mark(), varyingOf(key)
		switch string(key) {
		case "consumer":
			r.sink()
		case "table_name":
			c.TableName = r.string()
		case "commit_idx":
			c.CommitIdx = int(s.IntOrNull())
		case "commit_lsn":
			c.CommitLSN = s.IntOrNull()
		case "commit_timestamp":
			c.CommitTimestamp = r.time()
		case "idempotency_key":
			c.IdempotencyKey = r.string()
		case "table_schema":
			c.TableSchema = r.string()
		case "transaction_annotations":
			r.json.annotations = r.raw()
		case "record_pks":
			c.RecordPKs = r.pks()
		case "enrichment":
			r.json.enrichment = r.raw()
		case "database_name":
			c.DatabaseName = r.string()
		default:
			s.Skip()
		}
		r.found.hole(s, what, base, mark)
	}
	if text := s.Since(base); r.found.isComplete(text) {
		r.found.text = text
	}
}

// record reads the row.
func (r *changeReader) record() {
	from := r.scan.Mark()
	r.row.Decode(&r.scan)
	r.c.Record = r.text[from : from+len(r.scan.Since(from))]
}

// sink reads the object "consumer".
func (r *changeReader) sink() {
	s := &r.scan
	if s.Null() {
		return
	}
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "id":
			r.c.SinkID = r.string()
		case "name":
			r.c.SinkName = r.string()
		case "annotations":
			r.json.sink = r.raw()
		default:
			s.Skip()
		}
	}
}

// raw reads any value and returns its text.
func (r *changeReader) raw() string {
	from := r.scan.Mark()
	return r.text[from : from+len(r.scan.Raw())]
}

// string reads a string or null. It is a part of the text unless it has escapes.
func (r *changeReader) string() string {
	from := r.scan.Mark() + 1 // behind the quote
	value := r.scan.StringOrNull()
	if len(value) == 0 || r.scan.Copied(value) {
		return string(value)
	}
	return r.text[from : from+len(value)]
}

// time reads a time. Sequin writes RFC 3339, or microseconds since 1970 where a sink's timestamp_format says so.
func (r *changeReader) time() time.Time {
	switch r.scan.Kind() {
	case jscan.Number:
		return time.UnixMicro(r.scan.Int()).UTC()
	case jscan.String:
		return readTime(r.string())
	}
	r.scan.Skip()
	return time.Time{}
}

// pks reads the values of a primary key. A value that is no string becomes its JSON.
func (r *changeReader) pks() []string {
	s := &r.scan
	if s.Null() {
		return nil
	}
	s.Array()
	values := r.room.pks[:0]
	for s.Elem() {
		if s.Kind() == jscan.String {
			values = append(values, r.string())
		} else {
			values = append(values, string(s.Raw()))
		}
	}
	return values
}

// changes reads the old values of columns. They share one copy of their JSON.
func (r *changeReader) changes() map[string]json.RawMessage {
	if r.scan.Null() {
		return nil
	}
	if r.scan.Kind() != jscan.Object {
		r.scan.Object() // fails
		return nil
	}
	var old map[string]json.RawMessage
	var s jscan.Scanner
	s.Reset(bytes.Clone(r.scan.Raw()))
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if old == nil {
			old = map[string]json.RawMessage{}
		}
		name := string(key)
		old[name] = s.Raw()
	}
	return old
}
