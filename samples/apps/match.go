package apps

import "strings"

// Match reports whether an image's name fits a pattern.
//
// A star stands for any run of characters, slashes too. A pattern without a
// slash means images of Docker Hub's library only, so that "nginx*" is not
// "nginx/nginx-ingress". A digest is not part of the name, and neither is
// "docker.io/" or "docker.io/library/", which people write or leave out.
func Match(pattern, image string) bool {
	image, _, _ = strings.Cut(image, "@")
	image = strings.TrimPrefix(image, "docker.io/")
	image = strings.TrimPrefix(image, "index.docker.io/")
	image = strings.TrimPrefix(image, "library/")
	if !strings.Contains(pattern, "/") && strings.Contains(image, "/") {
		return false
	}
	return glob(pattern, image)
}

// glob matches s against a pattern whose only special character is the star.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(s, part) // the leftmost place leaves most for the rest
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, last)
}
