package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"slices"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// assetVersion is in the paths of scripts and styles, so that browsers may keep them for ever.
var assetVersion = func() string {
	sum := sha256.New()
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		text, err := staticFiles.ReadFile("static/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}()

// serveStatic answers the paths of scripts and styles. No login is needed for them.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := "static/" + r.PathValue("file")
	if _, err := fs.Stat(staticFiles, name); err != nil || r.PathValue("version") != assetVersion {
		http.NotFound(w, r) // of another version of the program, behind the same balancer
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, staticFiles, name)
}

// functions are what the templates call.
var functions = template.FuncMap{
	"static":     func(name string) string { return Path + "/static/" + assetVersion + "/" + name },
	"home":       func() string { return home },
	"number":     overview.Number[int64],
	"count":      overview.Number[int],
	"bytes":      cli.Bytes,
	"rate":       perSecond,
	"percent":    percent,
	"spark":      spark,
	"plural":     plural,
	"stateClass": stateClass,
}

// stateClass is the class of the mark of a state.
func stateClass(state string) string {
	switch state {
	case leased:
		return "work"
	case "acked":
		return "good"
	case "delayed", "withheld", "replaced":
		return "warn"
	}
	return "idle"
}

// templates are the pages by their names. Each has the frame "page" and its own "content", and pages that change have "live".
var templates = func() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/frame.html", "templates/parts.html"))
	all := map[string]*template.Template{}
	for _, name := range []string{"login", "streams", "stream", "consumer", "message", "form", "problem"} {
		all[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, "templates/"+name+".html"))
	}
	all["again"] = template.Must(template.New("").ParseFS(templateFiles, "templates/again.html"))
	return all
}()

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
