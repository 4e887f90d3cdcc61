package api

import "net/http"

func (s *Server) openAPI(w http.ResponseWriter, q *request) error {
	return noSuchPath(q.URL.Path)
}
