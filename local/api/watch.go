package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/local/api/store"
)

// bookmarkEvery is how often an idle watch is told the version that it has reached.
const bookmarkEvery = 30 * time.Second

// A watching is one watch in progress.
type watching struct {
	*request
	match     *selector
	form      *tableShape // nil: plain objects
	partial   bool
	bookmarks bool
	w         http.ResponseWriter
	flush     func() error
	out       bytes.Buffer
	server    *Server
	headers   bool // the table's column definitions have been sent
}

// watch streams changes until the client leaves, its timeout ends or it falls behind.
func (s *Server) watch(w http.ResponseWriter, q *request) error {
	match, err := q.selector()
	if err != nil {
		return err
	}
	g := &watching{request: q, match: match, form: tableForm(q.Request), w: w, server: s,
		partial: partialForm(q.Request) != "", bookmarks: isTrue(q.query.Get("allowWatchBookmarks"))}
	g.flush = http.NewResponseController(w).Flush
	initial, version, watcher, err := s.startWatch(q)
	if err != nil {
		return err
	}
	defer watcher.Stop()
	ctx := q.Context()
	var timeout <-chan time.Time
	if text := q.query.Get("timeoutSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return badRequest("timeoutSeconds: %q is not a number of seconds", text)
		}
		if n > 0 {
			timer := time.NewTimer(time.Duration(n) * time.Second)
			defer timer.Stop()
			timeout = timer.C
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	for _, o := range initial {
		if match.matches(o) {
			g.event("ADDED", o)
			if err := g.sendSome(); err != nil {
				return nil // the client has gone
			}
		}
	}
	if isTrue(q.query.Get("sendInitialEvents")) && g.bookmarks {
		g.bookmark(version, true)
	}
	// Spread, so that a hundred watches that began together do not wake together.
	beat := time.NewTicker(bookmarkEvery - rand.N(bookmarkEvery/4))
	defer beat.Stop()
	for {
		if err := g.send(); err != nil {
			return nil // the client has gone
		}
		select {
		case <-watcher.Ready():
			events, err := watcher.Take()
			if err != nil {
				g.error(expired(version))
				g.send()
				return nil
			}
			for _, e := range events {
				g.change(e)
				version = e.Version
				if err := g.sendSome(); err != nil {
					return nil
				}
			}
		case <-beat.C:
			if v := s.store.Progress(watcher); g.bookmarks && v > 0 {
				version = v
				g.bookmark(v, false)
			}
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			return nil
		case <-timeout:
			return nil
		}
	}
}

// startWatch chooses where the watch begins: at the present, with what exists as
// its first events, or after a version that the client has seen.
func (s *Server) startWatch(q *request) ([]*store.Object, uint64, *store.Watcher, error) {
	rv := q.query.Get("resourceVersion")
	initial := isTrue(q.query.Get("sendInitialEvents"))
	if initial && q.query.Get("resourceVersionMatch") != string(metav1.ResourceVersionMatchNotOlderThan) {
		return nil, 0, nil, badRequest("sendInitialEvents: wants resourceVersionMatch=NotOlderThan")
	}
	var from uint64
	if rv != "" {
		var err error
		if from, err = strconv.ParseUint(rv, 10, 64); err != nil {
			return nil, 0, nil, badRequest("resourceVersion: %q is not a version of this server", rv)
		}
	}
	if now := s.store.Version(); from > now {
		return nil, 0, nil, tooNew(from, now)
	}
	if from == 0 || initial {
		objects, version, w := s.store.ListAndWatch(q.res.key, q.namespace)
		if q.query.Get("sendInitialEvents") == "false" {
			objects = nil
		}
		return objects, version, w, nil
	}
	w, err := s.store.Watch(q.res.key, q.namespace, from)
	if err != nil {
		return nil, 0, nil, expired(from)
	}
	return nil, from, w, nil
}

// change writes e as the watch's selector sees it: an object that begins to
// match is added, one that ceases to match is deleted.
func (g *watching) change(e store.Event) {
	is := g.match.matches(e.Object)
	was := e.Old != nil && g.match.matches(e.Old)
	switch {
	case e.Type == store.Deleted:
		if was {
			g.event("DELETED", e.Object)
		}
	case is && was:
		g.event("MODIFIED", e.Object)
	case is:
		g.event("ADDED", e.Object)
	case was:
		// Kubernetes sends the last state that matched, with the new version.
		old := e.Old.Value.DeepCopy()
		old.SetResourceVersion(strconv.FormatUint(e.Version, 10))
		raw, err := json.Marshal(old.Object)
		if err == nil {
			g.event("DELETED", &store.Object{Key: e.Object.Key, Version: e.Version, JSON: raw, Value: old})
		}
	}
}

func (g *watching) event(typ string, o *store.Object) {
	switch {
	case g.form != nil:
		raw, err := json.Marshal(g.server.table(g.request, g.form, g.server.objects(g.request, []*store.Object{o}, nil), o.Version, !g.headers))
		if err != nil {
			g.error(err)
			return
		}
		g.headers = true
		g.line(typ, raw)
	case g.partial:
		g.line(typ, partial(o.JSON, "PartialObjectMetadata"))
	default:
		g.line(typ, g.raw(o))
	}
}

// bookmark tells the client that it has seen everything up to version.
func (g *watching) bookmark(version uint64, initial bool) {
	notes := ""
	if initial {
		notes = `,"annotations":{"` + metav1.InitialEventsAnnotationKey + `":"true"}`
	}
	typ, kind := apiVersion(g.res.Group, g.version), g.res.Kind.Kind
	if g.partial {
		typ, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	}
	if g.form != nil {
		raw, _ := json.Marshal(&metav1.Table{
			TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
			ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)},
			Rows: []metav1.TableRow{{Cells: []any{}, Object: rawObject(fmt.Appendf(nil,
				`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"%d"%s}}`, version, notes))}},
		})
		g.line("BOOKMARK", raw)
		return
	}
	g.line("BOOKMARK", fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"%d"%s}}`, kind, typ, version, notes))
}

// error ends the stream with a status.
func (g *watching) error(err error) {
	st := status(err)
	st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	raw, _ := json.Marshal(st)
	g.line("ERROR", raw)
}

func (g *watching) line(typ string, object []byte) {
	g.out.WriteString(`{"type":"`)
	g.out.WriteString(typ)
	g.out.WriteString(`","object":`)
	g.out.Write(object)
	g.out.WriteString("}\n")
}

// send hands what was written to the connection. A client that takes nothing
// for sendTimeout is dropped; its watcher's queue is bounded all the while.
func (g *watching) send() error {
	rc := http.NewResponseController(g.w)
	rc.SetWriteDeadline(time.Now().Add(sendTimeout)) // in-process answers have none
	if g.out.Len() > 0 {
		if _, err := g.w.Write(g.out.Bytes()); err != nil {
			return err
		}
		g.out.Reset()
		if g.out.Cap() > 2*sendAt { // there may be a thousand watches
			g.out = bytes.Buffer{}
		}
	}
	return g.flush()
}

const sendTimeout = 30 * time.Second

// sendAt is how much is collected at most before it is sent.
const sendAt = 64 << 10

// sendSome is send, if there is enough.
func (g *watching) sendSome() error {
	if g.out.Len() < sendAt {
		return nil
	}
	return g.send()
}
