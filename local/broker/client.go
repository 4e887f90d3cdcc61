package broker

// A Client asks the broker at a Unix socket. It is safe for concurrent use and
// holds nothing open between requests.
type Client struct{ path string }

// NewClient returns the client of the broker's socket at path. It does not connect.
func NewClient(path string) *Client { return &Client{path: path} }
