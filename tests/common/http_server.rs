//! A web server on this machine that misbehaves in every way a real one does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server was asked: the path, and the headers that matter here.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    pub range_start: Option<usize>,
    pub if_range: Option<String>,
}

/// How the server goes wrong after [`Reply::cut`] bytes of the body.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    HangUp,
    /// Says nothing more but keeps the connection.
    Stall,
}

/// What it answers.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
    pub fault: Fault,
    /// In chunks, so without announcing the length.
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

    /// Everything, whatever was asked for, as a server answers that knows no ranges.
    pub fn whole(body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            ..Self::status(200)
        }
    }

    /// As a correct server answers: a range if the validator still holds, else everything.
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

    /// Head and as much of the body as is to be sent.
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
    /// `answer` gets the request and how many came before it. The thread lives as long as the test.
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
                // The client may hang up first, when it has read enough.
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
