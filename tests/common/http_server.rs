//! A local web server that reproduces the faults of real servers.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request: its path and the headers that the tests need.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    pub range_start: Option<usize>,
    pub if_range: Option<String>,
}

/// The fault of the server after [`Reply::cut`] bytes of the body.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    HangUp,
    /// Sends nothing more but keeps the connection open.
    Stall,
}

/// A reply.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
    pub fault: Fault,
    /// Chunked, without a content length.
    pub chunked: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            fault: Fault::HangUp,
            chunked: false,
        }
    }

    /// Replies with the whole file, as a server without support for ranges does.
    pub fn whole(body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            ..Self::status(200)
        }
    }

    /// Replies with the requested range, whatever the validator: in violation of the protocol, or without any.
    pub fn range(request: &Request, body: &[u8]) -> Self {
        const ANY: &str = "\"\"";
        let request = Request {
            if_range: Some(ANY.into()),
            ..request.clone()
        };
        let mut reply = Self::file(&request, body, ANY);
        reply.headers.retain(|header| !header.starts_with("etag"));
        reply
    }

    /// Replies as a correct server does: with a range if the validator still matches, else with the whole file.
    pub fn file(request: &Request, body: &[u8], etag: &str) -> Self {
        let start = request
            .range_start
            .filter(|_| request.if_range.as_deref() == Some(etag));
        let mut reply = Self::status(match start {
            None => 200,
            Some(start) if start < body.len() => 206,
            Some(_) => 416,
        });
        reply.headers.push(format!("etag: {etag}"));
        match reply.status {
            416 => reply
                .headers
                .push(format!("content-range: bytes */{}", body.len())),
            206 => reply.headers.push(format!(
                "content-range: bytes {}-{}/{}",
                start.unwrap(),
                body.len() - 1,
                body.len()
            )),
            _ => {}
        }
        if reply.status != 416 {
            reply.body = body[start.unwrap_or(0)..].to_vec();
        }
        reply
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Returns the head and the part of the body that is sent.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", self.status).into_bytes();
        for header in &self.headers {
            bytes.extend(format!("{header}\r\n").into_bytes());
        }
        let sent = &self.body[..self.cut.unwrap_or(self.body.len())];
        if self.chunked {
            bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in sent.chunks(10_000) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            if self.cut.is_none() {
                bytes.extend(b"0\r\n\r\n");
            }
        } else {
            bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).into_bytes());
            bytes.extend(sent);
        }
        bytes
    }
}

pub struct Server {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts the server. `answer` receives the request and the number of earlier requests. The thread lives as
    /// long as the test.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut stalled = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let before = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                let reply = answer(&request, before);
                // The client may close the connection first.
                let _ = stream.write_all(&reply.to_bytes());
                if reply.fault == Fault::Stall {
                    stalled.push(stream);
                }
            }
        });
        Self { url, seen }
    }

    pub fn range_starts(&self) -> Vec<Option<usize>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|request| request.range_start).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request {
        path: first.split(' ').nth(1)?.to_owned(),
        ..Request::default()
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value.trim_start_matches("bytes=").trim_end_matches('-');
                request.range_start = start.parse().ok();
            }
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}
