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

	"github.com/sequin-go/sequin/internal/row"
)

// ChangeData is the data of a change: the members of a message of a sink. Its strings are parts of the text that was decoded,
// or copies of an earlier one. Its JSON values are copies.
type ChangeData struct {
	Action  string
	Record  string                     // its JSON
	Changes map[string]json.RawMessage // nil if there are none
	ChangeMetadata
}

// ChangeMetadata is the member "metadata".
type ChangeMetadata struct {
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
	of     reflect.Type
	rows   *row.Plan
	known  atomic.Pointer[knownMetadata]
	misses atomic.Uint32 // how many changes had other metadata than the known one
}

// knownMetadata is what most changes of a sink have in common.
type knownMetadata struct {
	layout layout
	common ChangeMetadata // without JSON values, and without those of the holes
	json   metadataJSON
}

// metadataJSON is the JSON of the members that are returned as JSON, or "".
type metadataJSON struct{ annotations, enrichment, sink string }

var changePlans sync.Map // reflect.Type → *ChangePlan

// firstPlan is the plan of the first type, which is the only one in most programs.
var firstPlan atomic.Pointer[ChangePlan]

// ChangePlanOf returns the plan for rows of a type.
func ChangePlanOf(t reflect.Type) *ChangePlan {
	if first := firstPlan.Load(); first != nil && first.of == t {
		return first
	}
	if known, ok := changePlans.Load(t); ok {
		return known.(*ChangePlan)
	}
	known, _ := changePlans.LoadOrStore(t, &ChangePlan{of: t, rows: row.NewPlan(t)})
	firstPlan.CompareAndSwap(nil, known.(*ChangePlan))
	return known.(*ChangePlan)
}

// ChangeRoom has room for the values of most changes, so that they share an allocation with the row.
type ChangeRoom struct {
	pks  [1]string // most tables have a primary key of one column
	json [16]byte  // most JSON values are null or {}
}

// Decode reads the data of a change, and the row into a value that can be set and is the zero value. The result uses room, which
// must not be used again. fits reports whether the row was decoded as encoding/json would have decoded it; otherwise the caller
// decodes Record. Decode returns an error if the action or the record is missing.
func (p *ChangePlan) Decode(text string, into reflect.Value, room *ChangeRoom) (c ChangeData, fits bool, err error) {
	var r changeReader // its fields are set one by one, because a literal is made elsewhere and copied
	r.text, r.known, r.room = text, p.known.Load(), room
	r.row.Reset(p.rows, into, text)
	r.scan.ResetString(text)
	r.members()
	if err := r.scan.Done(); err != nil {
		return ChangeData{}, false, err
	}
	if r.c.Action == "" || r.c.Record == "" {
		return ChangeData{}, false, errors.Join(RequireField(r.c.Action != "", "action"), RequireField(r.c.Record != "", "record"))
	}
	if r.found != nil && len(r.found.text) > 0 {
		p.learn(&r)
	}
	r.copyJSON()
	return r.c, r.row.Fits(), nil
}

// learn makes the metadata that was read the known one, the more rarely the more often it had to: a program may decode the
// changes of several sinks as one type.
func (p *ChangePlan) learn(r *changeReader) {
	if n := p.misses.Add(1); n&(n-1) != 0 {
		return
	}
	m := &r.c.ChangeMetadata
	k := &knownMetadata{layout: *r.found, common: ChangeMetadata{
		TableSchema: strings.Clone(m.TableSchema), TableName: strings.Clone(m.TableName), DatabaseName: strings.Clone(m.DatabaseName),
		SinkID: strings.Clone(m.SinkID), SinkName: strings.Clone(m.SinkName),
	}, json: metadataJSON{strings.Clone(r.json.annotations), strings.Clone(r.json.enrichment), strings.Clone(r.json.sink)}}
	k.layout.text = bytes.Clone(k.layout.text)
	p.known.Store(k)
}
