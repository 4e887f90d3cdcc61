// Package files keeps the objects of a mesh equal to the files of a directory.
//
// Applying a file means what `kubectl apply` means. Every object remembers file
// and line in the annotation [Source]; whoever writes it next without that
// annotation (malla apply, kubectl) takes it over, so an object belongs to its
// last writer. A file that goes, or no longer holds an object, takes along what
// it still owns, and nothing else; a directory that goes as a whole takes nothing along. A document that is wrong is reported with its
// place and changes nothing: the last good version stays in force.
//
// The package reads files and talks to the API server; it does not judge
// objects itself (package validate, and the server's admission).
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
)

// Source is the annotation that says where an object was written: file:line.
const Source = "malla.dev/source"

// A Rejection is a document, or an object in it, that was not applied.
type Rejection struct {
	Group, Kind     string // empty if the document could not even be read
	Namespace, Name string
	Source          string // file:line
	Message         string // what is wrong, without the place and the object
	Text            string // the document as JSON, where it could be read
}

// Key names an object.
type Key struct{ Group, Kind, Namespace, Name string }

func (k Key) String() string {
	if k.Namespace == "" {
		return strings.ToLower(k.Kind) + "/" + k.Name
	}
	return strings.ToLower(k.Kind) + "/" + k.Name + " in " + k.Namespace
}

// An Event is one thing that applying the files did.
type Event struct {
	Key    Key
	Change Change
	Source string
}

// Options say what to follow and whom to tell.
type Options struct {
	Paths     []string // directories or files
	Recursive bool
	Client    dynamic.Interface
	// Check judges an object before it is sent; positions are asked of the doc.
	Check func(d *load.Doc) field.List
	// Reject replaces what is shown as wrong about the files.
	Reject func([]Rejection)
	// Tell hears of changes and mistakes as they happen; may be nil.
	Tell func(Event)
	// Look is how often Follow looks for what the system tells nobody of; 0: a second.
	Look time.Duration
}

// A Follower applies files and remembers what it applied. Its methods are for
// one goroutine.
type Follower struct {
	Options
	files   map[string]stamp // that the last pass read
	applied map[Key]string   // Source of what stands in the files
	texts   map[Key]string   // what was last sent, to leave alone what did not change
	seen    map[string]os.FileInfo
	wrong   []Rejection
	byHand  []Key // that an earlier run left and no file wrote
	undone  bool  // something that should be deleted is still there
}

// A stamp tells whether a file was saved, be it with what it held before.
type stamp struct {
	at   time.Time
	size int64
}

// New returns a follower that has applied nothing.
func New(o Options) *Follower {
	return &Follower{Options: o, files: map[string]stamp{}, applied: map[Key]string{}, texts: map[Key]string{}}
}

// Pass reads the files and applies what changed. All mistakes are returned, and
// given to Reject; what is right is applied all the same.
func (f *Follower) Pass(ctx context.Context) []Rejection {
	docs, wrong, read, unread := f.load()
	for file, is := range read {
		if was, known := f.files[file]; known && was != is {
			f.saved(file)
		}
	}
	now := map[Key]string{}
	owners := f.owners(docs)
	for _, d := range docs {
		key := keyOf(d.Object)
		if key.Name == "" || key.Kind == "" {
			unread.files[d.File] = true // nobody knows which object this was
		}
		if owner := owners[key]; owner != d {
			wrong = append(wrong, reject(d, d.Source(), "stands in these files already at "+owner.Source()))
			continue
		}
		now[key] = d.Source()
		if errs := f.Check(d); len(errs) > 0 {
			for _, e := range errs {
				source := e.Pos
				if source == "" {
					source = d.Pos(e.At)
				}
				wrong = append(wrong, reject(d, source, onObject(e)))
			}
			continue
		}
		if err := f.one(ctx, key, d); err != nil {
			wrong = append(wrong, reject(d, d.Source(), apiMessage(err)))
		}
	}
	left := f.drop(ctx, now, unread)
	f.undone = len(left) > 0
	wrong = append(wrong, left...)
	for key, source := range f.applied {
		if _, ok := now[key]; !ok && unread.holds(source) {
			now[key] = source
		}
	}
	f.applied, f.files, f.wrong = now, read, wrong
	f.Reject(wrong)
	return wrong
}

// Empty reports whether the last pass found no document at all, right or wrong.
func (f *Follower) Empty() bool { return len(f.applied) == 0 && len(f.wrong) == 0 }

// Left lists what somebody applied by hand in an earlier run, and no file has: it is there again.
func (f *Follower) Left() []Key {
	return slices.DeleteFunc(slices.Clone(f.byHand), func(k Key) bool { _, ok := f.applied[k]; return ok })
}

// saved forgets what was sent of a file: who saves it means all of it, also what
// somebody changed or deleted since.
func (f *Follower) saved(file string) {
	for key, source := range f.applied {
		if fileOf(source) == file {
			delete(f.texts, key)
		}
	}
}

// owners says, of several documents for one object, which one counts: that of the
// file that has the object already, else the first without a mistake, else the first.
func (f *Follower) owners(docs []*load.Doc) map[Key]*load.Doc {
	all := map[Key][]*load.Doc{}
	for _, d := range docs {
		all[keyOf(d.Object)] = append(all[keyOf(d.Object)], d)
	}
	owners := map[Key]*load.Doc{}
	for key, list := range all {
		owners[key] = list[0]
		if len(list) == 1 {
			continue
		}
		for _, d := range slices.Backward(list) {
			if len(f.Check(d)) == 0 {
				owners[key] = d
			}
		}
		for _, d := range slices.Backward(list) {
			if source, ok := f.applied[key]; ok && fileOf(source) == d.File {
				owners[key] = d
			}
		}
	}
	return owners
}

// one applies a document unless exactly this text was applied before.
func (f *Follower) one(ctx context.Context, key Key, d *load.Doc) error {
	want := d.Object.DeepCopy()
	annotations := want.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[Source] = d.Source()
	want.SetAnnotations(annotations)
	text, err := want.MarshalJSON()
	if err != nil {
		return err
	}
	if f.texts[key] == string(text) {
		return nil
	}
	change, err := apply(ctx, f.Client, want)
	if err != nil {
		return err
	}
	f.texts[key] = string(text)
	if f.Tell != nil {
		f.Tell(Event{Key: key, Change: change, Source: d.Source()})
	}
	return nil
}

// drop deletes what stood in the files before and no longer does, if the file
// still owns it. What cannot be deleted stays in now, for the next pass.
func (f *Follower) drop(ctx context.Context, now map[Key]string, unread unread) (left []Rejection) {
	for key, source := range f.applied {
		if _, ok := now[key]; ok || unread.holds(source) {
			continue
		}
		delete(f.texts, key)
		err := f.deleteOwned(ctx, key, source)
		if err == nil {
			continue
		}
		now[key] = source
		left = append(left, Rejection{Group: key.Group, Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Source: source,
			Message: "is in no file any more, but cannot be deleted: " + apiMessage(err)})
	}
	return left
}

func (f *Follower) deleteOwned(ctx context.Context, key Key, source string) error {
	r, u, err := f.get(ctx, key)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return nil
	case err != nil:
		return err
	case fileOf(u.GetAnnotations()[Source]) != fileOf(source):
		return nil // somebody else's now
	}
	uid := u.GetUID()
	background := metav1.DeletePropagationBackground
	err = r.Delete(ctx, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // or already another object of that name
		return nil
	case apierrors.IsForbidden(err) && key.Group == "" && key.Kind == "Namespace":
		return f.release(ctx, key, u, source) // default and its like are always there
	case err != nil:
		return err
	}
	if f.Tell != nil {
		f.Tell(Event{Key: key, Change: Deleted, Source: source})
	}
	return nil
}

// release makes an object that cannot go what it would be without its file.
func (f *Follower) release(ctx context.Context, key Key, u *unstructured.Unstructured, source string) error {
	bare := &unstructured.Unstructured{}
	bare.SetGroupVersionKind(u.GroupVersionKind())
	bare.SetName(key.Name)
	bare.SetAnnotations(map[string]string{})
	change, err := apply(ctx, f.Client, bare)
	if err == nil && f.Tell != nil {
		f.Tell(Event{Key: key, Change: change, Source: source})
	}
	return err
}

func (f *Follower) get(ctx context.Context, key Key) (dynamic.ResourceInterface, *unstructured.Unstructured, error) {
	k, ok := kind.ByGK(schema.GroupKind{Group: key.Group, Kind: key.Kind})
	if !ok { // it was refused, so there is none
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Group: key.Group, Resource: key.Kind}, key.Name)
	}
	var r dynamic.ResourceInterface = f.Client.Resource(k.GVR())
	if k.Namespaced {
		r = f.Client.Resource(k.GVR()).Namespace(key.Namespace)
	}
	u, err := r.Get(ctx, key.Name, metav1.GetOptions{})
	return r, u, err
}

// Adopt learns what an earlier run left: every object that a file wrote counts as
// applied, so that the next Pass deletes those whose place in the files is gone.
func (f *Follower) Adopt(ctx context.Context) error {
	for _, k := range kind.All {
		if k.Class == kind.Refused {
			continue
		}
		list, err := f.Client.Resource(k.GVR()).List(ctx, metav1.ListOptions{})
		if err != nil {
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			return fmt.Errorf("list %s: %w", k.Plural, err)
		}
		for i := range list.Items {
			annotations := list.Items[i].GetAnnotations()
			key := Key{k.Group, k.Kind, list.Items[i].GetNamespace(), list.Items[i].GetName()}
			if source := annotations[Source]; source != "" {
				f.applied[key] = source
			} else if annotations[lastApplied] != "" {
				f.byHand = append(f.byHand, key)
			}
		}
	}
	return nil
}

// load reads all paths.
func (f *Follower) load() (docs []*load.Doc, wrong []Rejection, read map[string]stamp, missed unread) {
	read = map[string]stamp{}
	missed = unread{files: map[string]bool{}}
	for _, path := range f.Paths {
		result, err := load.Path(path, f.Recursive)
		if err != nil {
			wrong = append(wrong, Rejection{Source: path, Message: err.Error()})
			missed.path(path, f.files, err)
			continue
		}
		missed.all = missed.all || result.Partial
		for _, e := range result.Errors {
			wrong = append(wrong, Rejection{Source: e.Pos, Message: message(e)})
			missed.files[fileOf(e.Pos)] = true
		}
		for _, file := range result.Files {
			read[file] = stampOf(file)
		}
		docs = append(docs, result.Docs...)
	}
	for _, d := range docs {
		if k, ok := kind.ByGK(d.Object.GroupVersionKind().GroupKind()); ok && k.Namespaced && d.Object.GetNamespace() == "" {
			d.Object.SetNamespace(metav1.NamespaceDefault)
		}
	}
	slices.SortStableFunc(docs, func(a, b *load.Doc) int { return rank(a.Object.GetKind()) - rank(b.Object.GetKind()) })
	return docs, wrong, read, missed
}

// rank orders kinds so that what others need comes first: a pod should find its
// routes when it starts.
func rank(kind string) int {
	switch kind {
	case "Namespace":
		return 0
	case "ServiceAccount", "ConfigMap", "Secret":
		return 1
	case "Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob":
		return 3
	}
	return 2
}

func keyOf(u *unstructured.Unstructured) Key {
	return Key{u.GroupVersionKind().Group, u.GetKind(), u.GetNamespace(), u.GetName()}
}

func reject(d *load.Doc, source, message string) Rejection {
	u := d.Object
	text, err := u.MarshalJSON()
	if err != nil {
		text = nil // no text equals it
	}
	return Rejection{Group: u.GroupVersionKind().Group, Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName(), Source: source, Message: message,
		Text: string(text)}
}

// unread is what could not be read. It may still hold what we cannot see.
type unread struct {
	all   bool
	files map[string]bool // and directories
}

// path notes that a path cannot be read at all. A directory that has gone is one that
// somebody is moving, or a file system that hangs, rather than the wish that all of its
// objects end; a file that has gone was removed.
func (u *unread) path(path string, before map[string]stamp, err error) {
	if _, file := before[path]; !file || !errors.Is(err, fs.ErrNotExist) {
		u.files[path] = true
	}
}

// holds reports whether an object of that source may be in what was not read.
func (u unread) holds(source string) bool {
	if u.all {
		return true
	}
	for path := fileOf(source); ; path = filepath.Dir(path) {
		if u.files[path] {
			return true
		}
		if path == filepath.Dir(path) {
			return false
		}
	}
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// fileOf cuts the line off a position.
func fileOf(source string) string {
	if i := strings.LastIndexByte(source, ':'); i >= 0 {
		return source[:i]
	}
	return source
}

// message is an error's text without the place, which is shown beside it.
func message(e *field.Error) string {
	c := *e
	c.Pos = ""
	return c.Error()
}

// onObject is an error's text without place and object.
func onObject(e *field.Error) string {
	c := *e
	c.Pos, c.In = "", ""
	return c.Error()
}

// apiMessage is what the API server said, without the client's wrapping.
func apiMessage(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

// dirs lists the directories to watch: those named, and those of the files read.
func (f *Follower) dirs() []string {
	set := map[string]bool{}
	for _, p := range f.Paths {
		set[filepath.Clean(p)] = true
	}
	for file := range f.files {
		set[filepath.Dir(file)] = true
	}
	var out []string
	for d := range set {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}
