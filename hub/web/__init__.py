"""The pages: server-rendered, complete without JavaScript, and fed by the same domain calls as the API."""
