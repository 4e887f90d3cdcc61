package apps

import "testing"

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, image string
		want           bool
	}{
		{"nginx", "nginx", true},
		{"nginx", "nginx:1.27-alpine", true},
		{"nginx", "docker.io/library/nginx:1.27@sha256:0a", true},
		{"nginx:1.26", "nginx:1.27", false},
		{"nginx", "nginx-unprivileged", false},
		{"nginx", "nginx/nginx-ingress:3", false},
		{"nginx*", "nginx:1.27", true},
		{"example.com:5000/shop", "example.com:5000/shop", true},
		{"example.com:5000/shop", "example.com:5000/shop:v2", true},
		{"example.com/shop:*", "example.com/shop", false},
		{"*/httpbin*", "docker.io/kennethreitz/httpbin:latest", true},
	} {
		if got := Match(test.pattern, test.image); got != test.want {
			t.Errorf("Match(%q, %q) = %v, want %v", test.pattern, test.image, got, test.want)
		}
	}
}
