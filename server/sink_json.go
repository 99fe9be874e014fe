package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sequin-go/sequin/server/internal/sink"
)

// sinkData is the data of a message of a sink, with its members in the order in which Sequin writes them.
type sinkData struct {
	Record   json.RawMessage `json:"record"`
	Metadata sinkMetadata    `json:"metadata"`
	Action   string          `json:"action"`
	Changes  json.RawMessage `json:"changes"`
}

type sinkMetadata struct {
	Consumer               sinkConsumer     `json:"consumer"`
	TableName              string           `json:"table_name"`
	Database               sinkDatabaseJSON `json:"database"`
	CommitIdx              int              `json:"commit_idx"`
	CommitLSN              int64            `json:"commit_lsn"`
	CommitTimestamp        string           `json:"commit_timestamp"`
	IdempotencyKey         string           `json:"idempotency_key"`
	TableSchema            string           `json:"table_schema"`
	TransactionAnnotations any              `json:"transaction_annotations"`
	RecordPKs              []string         `json:"record_pks"`
	Enrichment             any              `json:"enrichment"`
	DatabaseName           string           `json:"database_name"`
}

type sinkConsumer struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Annotations struct{} `json:"annotations"`
}

type sinkDatabaseJSON struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Hostname    string   `json:"hostname"`
	Database    string   `json:"database"`
	Annotations struct{} `json:"annotations"`
}

// columns is a row. Its JSON has the columns by name, as Sequin's.
type columns map[string]json.RawMessage

var null = json.RawMessage("null")

// change makes what the queue holds of a change. full says whether the table has REPLICA IDENTITY FULL.
func (k *Sink) change(t SinkTransaction, index int, c SinkChange, full bool) (sink.Change, error) {
	if !slices.Contains([]string{"insert", "update", "delete", "read"}, c.Action) {
		return sink.Change{}, errAction
	}
	record, err := readColumns(c.Record)
	if err != nil {
		return sink.Change{}, err
	}
	pks := make([]string, len(k.options.PrimaryKey))
	for i, name := range k.options.PrimaryKey {
		value, ok := record[name]
		if !ok {
			return sink.Change{}, fmt.Errorf("the record has no %q, a column of the primary key", name)
		}
		pks[i] = keyText(value)
	}
	changes := null
	if c.Action == "update" {
		if changes, err = changedColumns(c.Before, record, full); err != nil {
			return sink.Change{}, err
		}
	}
	if c.Action == "delete" && !full {
		for name := range record {
			if !slices.Contains(k.options.PrimaryKey, name) {
				record[name] = null
			}
		}
	}
	db := k.options.Database
	body, err := sinkJSON(sinkData{Record: mustJSON(record), Action: c.Action, Changes: changes, Metadata: sinkMetadata{
		Consumer: sinkConsumer{ID: k.options.ID, Name: k.name}, TableName: k.table, TableSchema: k.schema,
		Database:  sinkDatabaseJSON{ID: db.ID, Name: db.Name, Hostname: db.Hostname, Database: db.Database},
		CommitIdx: index, CommitLSN: t.LSN, CommitTimestamp: t.At.UTC().Format(microsLayout),
		IdempotencyKey:         base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d:%d", t.LSN, index)),
		TransactionAnnotations: t.Annotations, RecordPKs: pks, DatabaseName: db.Name,
	}})
	return sink.Change{Row: string(mustJSON(pks)), Body: body}, err
}

// changedColumns returns the old values of the columns that an update changed. Without full it knows none.
func changedColumns(before any, after columns, full bool) (json.RawMessage, error) {
	if !full {
		return json.RawMessage("{}"), nil
	}
	if before == nil {
		return nil, errors.New("an update of a table with REPLICA IDENTITY FULL needs the row before it")
	}
	old, err := readColumns(before)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(old, func(name string, value json.RawMessage) bool { return bytes.Equal(value, after[name]) })
	return mustJSON(old), nil
}

// readColumns reads a record, which is anything whose JSON is an object.
func readColumns(record any) (columns, error) {
	text, err := sinkJSON(record)
	if err != nil {
		return nil, err
	}
	var row columns
	if err := json.Unmarshal(text, &row); err != nil || row == nil {
		return nil, fmt.Errorf("the JSON of a record must be an object, not %.40s", text)
	}
	return row, nil
}

// keyText returns a value of a primary key as Sequin writes it: as text.
func keyText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}

// sinkJSON encodes without escapes for HTML, as Sequin does.
func sinkJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// mustJSON encodes what can always be encoded.
func mustJSON(v any) json.RawMessage {
	text, err := sinkJSON(v)
	if err != nil {
		panic(err)
	}
	return text
}

// sinkInfo is a sink as the management API shows it.
type sinkInfo struct {
	ID              string          `json:"id"`
	Name            string          `json:"name"`
	Status          string          `json:"status"`
	Filter          string          `json:"filter"`
	Tables          []string        `json:"tables"`
	Source          sinkSource      `json:"source"`
	Transform       string          `json:"transform"`
	Destination     sinkDestination `json:"destination"`
	Actions         []string        `json:"actions"`
	BatchSize       int             `json:"batch_size"`
	Database        string          `json:"database"`
	Annotations     struct{}        `json:"annotations"`
	Health          json.RawMessage `json:"health,omitempty"`
	Enrichment      string          `json:"enrichment"`
	TimestampFormat string          `json:"timestamp_format"`
	MessageGrouping bool            `json:"message_grouping"`
	MaxRetryCount   *int            `json:"max_retry_count"`
	LoadShedding    string          `json:"load_shedding_policy"`
	ActiveBackfills *[]string       `json:"active_backfills,omitempty"`
	Routing         string          `json:"routing"`
}

type sinkSource struct {
	IncludeSchemas []string `json:"include_schemas"`
	ExcludeSchemas []string `json:"exclude_schemas"`
	ExcludeTables  []string `json:"exclude_tables"`
	IncludeTables  []string `json:"include_tables"`
}

type sinkDestination struct {
	Type string `json:"type"`
}

// sinkHealth is the health of a sink that has just been made.
const sinkHealth = `{"name":"Consumer health","status":"waiting","checks":[{"name":"Sink configuration","status":"notice"},` +
	`{"name":"Message filtering","status":"waiting"},{"name":"Message ingestion","status":"waiting"},` +
	`{"name":"Messages pending delivery","status":"healthy"},{"name":"Message delivery","status":"healthy"}]}`

// info returns the sink as the management API shows it. The answer to a change has no health, and another order at its end.
func (k *Sink) info(changed bool) []byte {
	info := sinkInfo{
		ID: k.options.ID, Name: k.name, Status: k.status(), Filter: "none", Tables: []string{},
		Source: sinkSource{IncludeTables: []string{k.schema + "." + k.table}}, Transform: "none",
		Destination: sinkDestination{"sequin_stream"}, Actions: []string{"insert", "update", "delete"}, BatchSize: 1,
		Database: k.options.Database.Name, Enrichment: "none", TimestampFormat: "iso8601", MessageGrouping: true,
		LoadShedding: "pause_on_full", Routing: "none",
	}
	if changed {
		return append(bytes.TrimSuffix(mustJSON(info), []byte("}")), `,"active_backfills":[]}`...)
	}
	info.Health, info.ActiveBackfills = json.RawMessage(sinkHealth), &[]string{}
	return mustJSON(info)
}

// appendSinkDeliveries writes the answer to a receive.
func appendSinkDeliveries(dst []byte, got []sink.Delivery) []byte {
	dst = append(dst, `{"data":[`...)
	for i, d := range got {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"data":`...), d.Body...)
		dst = append(append(append(dst, `,"ack_id":"`...), d.ID.String()...), `"}`...)
	}
	return append(dst, "]}"...)
}

// sinkAckID reads an ack id. A released Sequin takes a UUID with dashes, without, or as a URN, and any 16 bytes, and compares it as
// text: only the form in which it was delivered is that of a message. For any other form known is false.
func sinkAckID(text string) (id sink.ID, known, ok bool) {
	parsed, form := parseUUID([]byte(text))
	id = sink.ID(parsed)
	return id, text == id.String(), form != noUUID || len(text) == len(id)
}
