package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/row"
)

// ChangeData is the data of a change: the members of a message of a sink. Its strings are parts of the text that was decoded,
// or of an earlier one. Its JSON values are copies.
type ChangeData struct {
	Action  string
	Record  string                     // its JSON
	Changes map[string]json.RawMessage // nil if there are none

	TableSchema, TableName string
	CommitTimestamp        time.Time // zero if it cannot be read
	CommitLSN              int64
	CommitIdx              int
	IdempotencyKey         string
	RecordPKs              []string
	TransactionAnnotations json.RawMessage
	Enrichment             json.RawMessage
	DatabaseName           string
	SinkID, SinkName       string
	SinkAnnotations        json.RawMessage
}

// ChangePlan decodes changes whose rows have one type. Several goroutines may use it at once.
type ChangePlan struct {
	rows *row.Plan
	seen atomic.Pointer[repeated]
	// learned counts how often seen was set. It is limited, because a program may decode the changes of many sinks as one type.
	learned atomic.Int32
}

const maxLearned = 16 // more than the sinks that a program usually has for a type

// repeated is what all changes of a sink have in common.
type repeated struct {
	sink            string // the text of the object "consumer"
	id, name, notes string // what is in it
	database        string // the text of the object "database"
}

var changePlans sync.Map // reflect.Type → *ChangePlan

// ChangePlanOf returns the plan for rows of a type.
func ChangePlanOf(t reflect.Type) *ChangePlan {
	if known, ok := changePlans.Load(t); ok {
		return known.(*ChangePlan)
	}
	known, _ := changePlans.LoadOrStore(t, &ChangePlan{rows: row.NewPlan(t)})
	return known.(*ChangePlan)
}

// changeReader reads one ChangeData.
type changeReader struct {
	scan jscan.Scanner
	text string
	row  row.Decoder
	seen *repeated
	c    ChangeData

	annotations, enrichment string // JSON that is copied at the end, or ""
	found                   repeated
}

// Decode reads the data of a change, and the row into a value that can be set and is the zero value. fits reports whether the
// row was decoded as encoding/json would have decoded it; otherwise the caller decodes Record. Decode returns an error if the
// action or the record is missing.
func (p *ChangePlan) Decode(text string, into reflect.Value) (c ChangeData, fits bool, err error) {
	r := changeReader{text: text, row: row.NewDecoder(p.rows, into, text), seen: p.seen.Load()}
	r.scan.ResetString(text)
	r.members()
	if err := r.scan.Done(); err != nil {
		return ChangeData{}, false, err
	}
	if r.c.Action == "" || r.c.Record == "" {
		return ChangeData{}, false, errors.Join(RequireField(r.c.Action != "", "action"), RequireField(r.c.Record != "", "record"))
	}
	r.copyJSON()
	p.learn(r.found)
	return r.c, r.row.Fits(), nil
}

// learn keeps what the changes of a sink have in common. It copies that, so that it does not keep the change.
func (p *ChangePlan) learn(found repeated) {
	if found.sink == "" || !strings.HasPrefix(found.database, "{") || p.learned.Add(1) > maxLearned {
		return
	}
	p.seen.Store(&repeated{
		sink: strings.Clone(found.sink), database: strings.Clone(found.database),
		id: strings.Clone(found.id), name: strings.Clone(found.name), notes: strings.Clone(found.notes),
	})
}

// copyJSON copies the JSON values into one allocation. What is appended to one does not overwrite another.
func (r *changeReader) copyJSON() {
	all := make([]byte, 0, len(r.annotations)+len(r.enrichment)+len(r.found.notes))
	for _, value := range [...]struct {
		text string
		to   *json.RawMessage
	}{{r.annotations, &r.c.TransactionAnnotations}, {r.enrichment, &r.c.Enrichment}, {r.found.notes, &r.c.SinkAnnotations}} {
		if from := len(all); value.text != "" {
			all = append(all, value.text...)
			*value.to = all[from:len(all):len(all)]
		}
	}
}

// members reads the object. Like those of metadata, its members are first looked for in the order in which Sequin writes them,
// which takes a fifth of the time, and then in any order.
func (r *changeReader) members() {
	s, c := &r.scan, &r.c
	s.Object()
	if s.Member(`"record":`) {
		r.record()
	}
	if s.Member(`"metadata":`) {
		r.metadata()
	}
	if s.Member(`"action":`) {
		c.Action = r.string()
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

// metadata reads the object "metadata".
func (r *changeReader) metadata() {
	s, c := &r.scan, &r.c
	if s.Null() {
		return
	}
	s.Object()
	if s.Member(`"consumer":`) {
		r.sink()
	}
	if s.Member(`"table_name":`) {
		c.TableName = r.string()
	}
	if s.Member(`"database":`) {
		r.database()
	}
	if s.Member(`"commit_idx":`) {
		c.CommitIdx = int(s.IntOrNull())
	}
	if s.Member(`"commit_lsn":`) {
		c.CommitLSN = s.IntOrNull()
	}
	if s.Member(`"commit_timestamp":`) {
		c.CommitTimestamp = r.time()
	}
	if s.Member(`"idempotency_key":`) {
		c.IdempotencyKey = r.string()
	}
	if s.Member(`"table_schema":`) {
		c.TableSchema = r.string()
	}
	if s.Member(`"transaction_annotations":`) {
		r.annotations = r.raw()
	}
	if s.Member(`"record_pks":`) {
		c.RecordPKs = r.pks()
	}
	if s.Member(`"enrichment":`) {
		r.enrichment = r.raw()
	}
	if s.Member(`"database_name":`) {
		c.DatabaseName = r.string()
	}
	r.otherMetadata()
}

// otherMetadata reads the members of metadata that are left.
func (r *changeReader) otherMetadata() {
	s, c := &r.scan, &r.c
	for key, ok := s.Key(); ok; key, ok = s.Key() {
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
			r.annotations = r.raw()
		case "record_pks":
			c.RecordPKs = r.pks()
		case "enrichment":
			r.enrichment = r.raw()
		case "database_name":
			c.DatabaseName = r.string()
		default:
			s.Skip()
		}
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
	if r.seen != nil && s.Repeats(r.seen.sink) {
		r.c.SinkID, r.c.SinkName, r.found.notes = r.seen.id, r.seen.name, r.seen.notes
		return
	}
	from := s.Mark()
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "id":
			r.c.SinkID = r.string()
		case "name":
			r.c.SinkName = r.string()
		case "annotations":
			r.found.notes = r.raw()
		default:
			s.Skip()
		}
	}
	r.found.sink = r.text[from : from+len(s.Since(from))]
	r.found.id, r.found.name = r.c.SinkID, r.c.SinkName
}

// database skips the object "database".
func (r *changeReader) database() {
	if r.seen == nil || !r.scan.Repeats(r.seen.database) {
		r.found.database = r.raw()
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
	if r.scan.Kind() == jscan.Number {
		return time.UnixMicro(r.scan.Int()).UTC()
	}
	return new(clock).scan(&r.scan)
}

// pks reads the values of a primary key. A value that is no string becomes its JSON.
func (r *changeReader) pks() []string {
	s := &r.scan
	if s.Null() {
		return nil
	}
	s.Array()
	values := make([]string, 0, 1) // most tables have one column
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
