package console

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// unknown stands for what the server has not told.
const unknown = "–"

// perSecond writes a rate with the digits that matter.
func perSecond(r overview.Rate) string {
	switch n := r.Now; {
	case !r.Known:
		return unknown
	case n <= 0:
		return "0/s"
	case n < 0.095:
		return "<0.1/s"
	case n < 9.95:
		return strconv.FormatFloat(n, 'f', 1, 64) + "/s"
	default:
		return overview.Number(int64(math.Round(n))) + "/s"
	}
}

// percent writes a share from 0 to 1.
func percent(share float64) string {
	if share > 0 && share < 0.01 {
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", share*100)
}

// moment is a time as a page shows it.
type moment struct {
	Text string // how long ago, or in how long
	ISO  string // "" for none
	Full string
}

// ago is a moment in the past.
func ago(now, t time.Time) moment {
	if t.IsZero() {
		return moment{Text: unknown}
	}
	return moment{Text: overview.Ago(now, t), ISO: t.UTC().Format(time.RFC3339Nano), Full: t.UTC().Format("2006-01-02 15:04:05.000 UTC")}
}

// href returns the URL of a path below the console. Its elements are escaped.
func href(query url.Values, elements ...string) string {
	var out strings.Builder
	out.WriteString(Path)
	for _, e := range elements {
		out.WriteString("/" + url.PathEscape(e))
	}
	if len(elements) == 0 {
		out.WriteString("/")
	}
	if len(query) > 0 {
		out.WriteString("?" + query.Encode())
	}
	return out.String()
}

// home is the URL of the first page.
const home = Path + "/"

func streamURL(stream string, below ...string) string {
	return href(nil, append([]string{"streams", stream}, below...)...)
}

func consumerURL(stream, consumer string, below ...string) string {
	return href(nil, append([]string{"streams", stream, "consumers", consumer}, below...)...)
}

// messageURL is that of a message. A stream may have several of one key.
func messageURL(stream, key string, seq int64) string {
	return href(messageQuery(key, seq), "streams", stream, "message")
}

func messageQuery(key string, seq int64) url.Values {
	return url.Values{"key": {key}, "seq": {strconv.FormatInt(seq, 10)}}
}

// with returns a query with a value replaced, or left out if it is empty. What an action has done is left out, too.
func with(query url.Values, name, value string) url.Values {
	changed := url.Values{}
	for n, values := range query {
		if n != name && n != doneParam && n != countParam {
			changed[n] = values
		}
	}
	if value != "" {
		changed.Set(name, value)
	}
	return changed
}

// preview returns the beginning of data as one line.
func preview(data string) string {
	const most = 160 // characters, about what fits into a row of the widest page
	if len(data) > 4*most {
		data = data[:4*most] // the bytes of as many characters
	}
	text := []rune(overview.Visible(strings.Join(strings.Fields(strings.ToValidUTF8(data, "")), " "), false))
	if len(text) > most {
		return string(text[:most-1]) + "…"
	}
	return string(text)
}
