package api

import (
	"net/http"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

// openAPI answers what kubectl needs to know before it sends a document: that
// the server itself checks fields (fieldValidation), for each kind. Schemas of
// the kinds are not served.
func (s *Server) openAPI(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodGet {
		return noSuchPath(q.URL.Path)
	}
	rest := strings.Join(q.path[1:], "/")
	switch {
	case rest == "v2":
		return openAPI2(w, q)
	case rest == "v3":
		paths := map[string]any{}
		for _, g := range s.kinds.groups {
			for _, v := range s.kinds.versions(g) {
				at := groupPath(g, v)
				paths[at] = map[string]string{"serverRelativeURL": "/openapi/v3/" + at}
			}
		}
		writeJSON(w, http.StatusOK, map[string]any{"paths": paths})
		return nil
	case strings.HasPrefix(rest, "v3/"):
		for _, g := range s.kinds.groups {
			for _, v := range s.kinds.versions(g) {
				if rest == "v3/"+groupPath(g, v) {
					writeJSON(w, http.StatusOK, s.openAPI3(g, v))
					return nil
				}
			}
		}
	}
	return noSuchPath(q.URL.Path)
}

// groupPath is "api/v1" or "apis/apps/v1".
func groupPath(group, version string) string {
	if group == "" {
		return "api/" + version
	}
	return "apis/" + group + "/" + version
}

// openAPI3 describes the paths of a group and version.
func (s *Server) openAPI3(group, version string) map[string]any {
	paths := map[string]any{}
	for _, res := range s.kinds.in(group, version) {
		at := "/" + groupPath(group, version) + "/"
		if res.Namespaced {
			at += "namespaces/{namespace}/"
		}
		at += res.Plural
		gvk := map[string]string{"group": group, "version": version, "kind": res.Kind.Kind}
		paths[at] = map[string]any{"post": operation("post", gvk, "dryRun", "fieldManager", "fieldValidation")}
		paths[at+"/{name}"] = map[string]any{
			"put":   operation("put", gvk, "dryRun", "fieldManager", "fieldValidation"),
			"patch": operation("patch", gvk, "dryRun", "fieldManager", "fieldValidation", "force"),
		}
	}
	return map[string]any{
		"openapi":    "3.0.0",
		"info":       map[string]string{"title": "malla", "version": Kubernetes},
		"paths":      paths,
		"components": map[string]any{"schemas": map[string]any{}},
	}
}

func operation(action string, gvk map[string]string, params ...string) map[string]any {
	list := make([]any, len(params))
	for i, p := range params {
		typ := "string"
		if p == "force" {
			typ = "boolean"
		}
		list[i] = map[string]any{"name": p, "in": "query", "schema": map[string]any{"type": typ, "uniqueItems": true}}
	}
	return map[string]any{
		"parameters":                      list,
		"responses":                       map[string]any{"200": map[string]string{"description": "OK"}},
		"x-kubernetes-action":             action,
		"x-kubernetes-group-version-kind": gvk,
	}
}

// openAPI2 answers clients of the old form with a document without definitions;
// they fall back on what they know themselves.
func openAPI2(w http.ResponseWriter, q *request) error {
	if !strings.Contains(q.Header.Get("Accept"), "proto-openapi.spec.v2") {
		writeJSON(w, http.StatusOK, map[string]any{"swagger": "2.0", "info": map[string]string{"title": "malla", "version": Kubernetes}, "paths": map[string]any{}})
		return nil
	}
	doc := &openapi_v2.Document{Swagger: "2.0", Info: &openapi_v2.Info{Title: "malla", Version: Kubernetes}, Paths: &openapi_v2.Paths{}, Definitions: &openapi_v2.Definitions{}}
	raw, err := proto.Marshal(doc)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
	w.WriteHeader(http.StatusOK)
	w.Write(raw)
	return nil
}
