package store

import "strings"

// own replaces the strings of the messages by copies, all of which share one allocation. It leaves out messages with headers,
// which entry.copy copies.
func own(messages []Message) {
	size := 0
	for i := range messages {
		if messages[i].Headers == "" {
			size += len(messages[i].Key) + len(messages[i].Data)
		}
	}
	var text strings.Builder
	text.Grow(size)
	for i := range messages {
		if messages[i].Headers == "" {
			text.WriteString(messages[i].Key)
			text.WriteString(messages[i].Data)
		}
	}
	rest := text.String()
	for i := range messages {
		m := &messages[i]
		if m.Headers != "" {
			continue
		}
		end := len(m.Key) + len(m.Data)
		m.Key, m.Data, rest = rest[:len(m.Key)], rest[len(m.Key):end], rest[end:]
	}
}
